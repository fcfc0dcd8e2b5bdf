#include "storage/tensor_values.h"

#include <cmath>
#include <cstring>

namespace headrace::storage {
namespace {

// The scales of codes "moment1.code" lie in "moment1.scale".
std::optional<uint32_t> scales_of(const SourceTensor& tensor, const SourcePlane& codes) {
  const bool known = (codes.name == "moment1.code" && codes.type == ElementType::kI8) ||
                     (codes.name == "moment2.code" && codes.type == ElementType::kU8);
  if (!known || codes.group != 1) return std::nullopt;
  const std::string name = codes.name.substr(0, codes.name.find('.')) + ".scale";
  for (uint32_t p = 0; p < tensor.planes.size(); p++)
    if (tensor.planes[p].name == name && tensor.planes[p].type == ElementType::kF32) return p;
  return std::nullopt;
}

// engine/math/updates.h has the formulas.
float moment_of(ElementType codes, std::byte code, float scale) {
  if (codes == ElementType::kI8) {
    const float root = static_cast<float>(static_cast<int8_t>(code)) * (1.0F / 127);
    return root * std::abs(root) * scale;
  }
  const float root = static_cast<float>(static_cast<uint8_t>(code)) * (1.0F / 255), square = root * root;
  return square * square * scale;
}

void read_moments(TensorSource& source, size_t tensor, const ValueField& field, uint64_t first_element,
                  std::span<std::byte> to, std::vector<std::byte>& scratch) {
  const SourcePlane& codes = source.tensors()[tensor].planes[field.plane];
  const SourcePlane& scales = source.tensors()[tensor].planes[*field.scales];
  const size_t count = to.size() / sizeof(float);
  if (count == 0) return;
  const uint64_t first_scale = scales.value_of(first_element);
  const uint64_t scale_count = scales.value_of(first_element + count - 1) + 1 - first_scale;
  scratch.resize(count + scale_count * sizeof(float));
  const std::span<std::byte> code_bytes = std::span(scratch).first(count),
                             scale_bytes = std::span(scratch).subspan(count);
  source.read(tensor, field.plane, first_element, code_bytes);
  source.read(tensor, *field.scales, first_scale, scale_bytes);
  for (size_t i = 0; i < count; i++) {
    const uint64_t at = scales.value_of(first_element + i) - first_scale;
    float scale = 0;
    std::memcpy(&scale, scale_bytes.data() + at * sizeof scale, sizeof scale);
    const float value = moment_of(codes.type, code_bytes[i], scale);
    std::memcpy(to.data() + i * sizeof value, &value, sizeof value);
  }
}

void read_joined(TensorSource& source, size_t tensor, const ValueField& field, uint64_t first_element,
                 std::span<std::byte> to, std::vector<std::byte>& scratch) {
  scratch.resize(to.size());
  const size_t count = to.size() / sizeof(uint32_t);
  const std::span<std::byte> high = std::span(scratch).first(count * 2),
                             low = std::span(scratch).last(count * 2);
  source.read(tensor, field.plane, first_element, high);
  source.read(tensor, field.plane + 1, first_element, low);
  for (size_t i = 0; i < count; i++) {
    uint16_t upper = 0;
    int16_t lower = 0;
    std::memcpy(&upper, high.data() + 2 * i, 2);
    std::memcpy(&lower, low.data() + 2 * i, 2);
    const uint32_t bits = (uint32_t{upper} << 16) + static_cast<uint32_t>(int32_t{lower});
    std::memcpy(to.data() + 4 * i, &bits, 4);
  }
}

}  // namespace

std::vector<ValueField> value_fields(const SourceTensor& tensor) {
  std::vector<ValueField> fields;
  for (uint32_t p = 0; p < tensor.planes.size(); p++) {
    const SourcePlane& plane = tensor.planes[p];
    if (plane.type == ElementType::kOther || plane.group != 1) continue;
    if (const std::optional<uint32_t> scales = scales_of(tensor, plane)) {
      const std::string name = plane.name.substr(0, plane.name.find('.'));
      fields.push_back({name, ElementType::kF32, p, false, scales});
      continue;
    }
    const SourcePlane* next = p + 1 < tensor.planes.size() ? &tensor.planes[p + 1] : nullptr;
    const bool joined = plane.name == "weight.high" && next != nullptr && next->name == "weight.low" &&
                        next->element_bytes == 2 && next->group == 1;
    const bool own = tensor.planes.size() == 1 || plane.name == "weight.high";
    fields.push_back({own ? "" : plane.name, joined ? ElementType::kF32 : plane.type, p, joined, {}});
  }
  return fields;
}

void read_values(TensorSource& source, size_t tensor, const ValueField& field, uint64_t first_element,
                 std::span<std::byte> to, std::vector<std::byte>& scratch) {
  if (field.scales) return read_moments(source, tensor, field, first_element, to, scratch);
  if (field.joined) return read_joined(source, tensor, field, first_element, to, scratch);
  source.read(tensor, field.plane, first_element, to);
}

}  // namespace headrace::storage

#include "storage/tensor_values.h"

#include <cstring>

namespace headrace::storage {

std::vector<ValueField> value_fields(const SourceTensor& tensor) {
  std::vector<ValueField> fields;
  for (uint32_t p = 0; p < tensor.planes.size(); p++) {
    const SourcePlane& plane = tensor.planes[p];
    if (plane.type == ElementType::kOther) continue;
    const bool joined = plane.name == "weight.high" && p + 1 < tensor.planes.size() &&
                        tensor.planes[p + 1].name == "weight.low" && tensor.planes[p + 1].element_bytes == 2;
    const bool own = tensor.planes.size() == 1 || plane.name == "weight.high";
    fields.push_back({own ? "" : plane.name, joined ? ElementType::kF32 : plane.type, p, joined});
  }
  return fields;
}

void read_values(TensorSource& source, size_t tensor, const ValueField& field, uint64_t first_element,
                 std::span<std::byte> to, std::vector<std::byte>& scratch) {
  if (!field.joined) return source.read(tensor, field.plane, first_element, to);
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

}  // namespace headrace::storage

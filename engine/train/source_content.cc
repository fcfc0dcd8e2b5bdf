#include "engine/train/source_content.h"

#include <algorithm>
#include <cstring>

#include <fmt/format.h>
#include <oneapi/tbb/task_arena.h>

#include "engine/math/kernels.h"
#include "storage/element_type.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::train {

using storage::ElementType;
using storage::SourceTensor;

SourceContent::SourceContent(storage::TensorSource& source, const Model& model, const storage::Layout& layout,
                             const DataSet* data)
    : source_(source), layout_(layout), data_(data), places_(layout.tensors().size()) {
  for (storage::TensorId id = 0; id < places_.size(); id++) {
    if (layout.tensor(id).slots == 1 || model.is_state(id)) continue;
    for (const storage::TensorPart& part : layout.tensor(id).parts) places_[id].push_back(find(part));
  }
}

SourceContent::Place SourceContent::find(const storage::TensorPart& part) const {
  const auto fail = [&](const std::string& problem) {
    return Error(ErrorKind::kUsage, fmt::format("{}: {}", printable(source_.info().path), problem),
                 "take a checkpoint or an export of this very model");
  };
  const auto tensors = source_.tensors();
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const SourceTensor& tensor) { return tensor.name == part.name; });
  if (found == tensors.end()) throw fail(fmt::format("it has no tensor '{}'", printable(part.name)));
  if (found->shape != part.shape)
    throw fail(fmt::format("tensor '{}' is [{}], and the model's is [{}]", printable(part.name),
                           fmt::join(found->shape, ", "), fmt::join(part.shape, ", ")));
  const std::vector<storage::ValueField> fields = storage::value_fields(*found);
  const bool floats = !fields.empty() && fields[0].name.empty() &&
                      (fields[0].type == ElementType::kF32 || fields[0].type == ElementType::kF16 ||
                       fields[0].type == ElementType::kBF16 || fields[0].type == ElementType::kF64);
  if (!floats)
    throw fail(fmt::format("tensor '{}' is of the type {}{}", printable(part.name),
                           found->planes.empty() ? "?" : printable(found->planes[0].name, 16),
                           !fields.empty() && fields[0].type == ElementType::kI8
                               ? fmt::format(", and there is no '{}.scale'", printable(part.name))
                               : ", which holds no weights"));
  return {size_t(found - tensors.begin()), fields[0]};
}

void SourceContent::read(const Place& place, uint64_t first_element, std::span<float> values) {
  bytes_.resize(values.size() * storage::element_bytes(place.field.type));
  storage::read_values(source_, place.tensor, place.field, first_element, bytes_, scratch_);
  if (place.field.type == ElementType::kF32) {
    std::memcpy(values.data(), bytes_.data(), bytes_.size());
  } else {
    doubles_.resize(values.size());
    storage::to_doubles(place.field.type, bytes_, doubles_);
    std::transform(doubles_.begin(), doubles_.end(), values.begin(), [](double v) { return float(v); });
  }
  for (float& value : values) value += 0.0F;  // -0.0 would be a pruned weight
}

uint32_t SourceContent::fill(const storage::BlockLayout& block, std::span<std::byte> payload) {
  if (block.slots == 1) {
    if (data_ == nullptr) return 0;
    data_->read_features(block.first_row, {reinterpret_cast<float*>(payload.data()), block.elements});
    return 1;
  }
  const std::vector<Place>& places = places_[block.tensor];
  if (places.empty()) return 0;
  const std::lock_guard lock(mutex_);
  values_.resize(block.elements);
  const storage::TensorSpec& tensor = layout_.tensor(block.tensor);
  const uint64_t first = block.first_row * tensor.columns, end = first + block.elements;
  for (size_t p = 0; p < places.size(); p++) {
    const uint64_t part_first = tensor.parts[p].first_element;
    const uint64_t part_end =
        p + 1 < places.size() ? tensor.parts[p + 1].first_element : tensor.rows * tensor.columns;
    const uint64_t from = std::max(first, part_first), to = std::min(end, part_end);
    if (from < to) read(places[p], from - part_first, std::span(values_).subspan(from - first, to - from));
  }
  // As in initial_content(): the creation's threads do not share their work.
  thread_local oneapi::tbb::task_arena alone(1);
  alone.execute([&] {
    math::split_planes(values_.data(), std::ssize(values_),
                       reinterpret_cast<uint16_t*>(payload.data() + block.planes[0].offset),
                       reinterpret_cast<uint16_t*>(payload.data() + block.planes[1].offset));
  });
  return 2;
}

}  // namespace headrace::train

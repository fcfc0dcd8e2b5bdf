#include "engine/inspect/dequantized.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <unordered_map>
#include <utility>

#include <fmt/format.h>

#include "engine/math/quantize.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::inspect {
namespace {

using storage::ElementType;
using storage::SourceTensor;
using storage::TensorSource;

constexpr uint64_t kPieceElements = uint64_t{1} << 20;

[[noreturn]] void corrupt(const TensorSource& source, const std::string& tensor, const std::string& why) {
  throw Error(ErrorKind::kCorrupt,
              fmt::format("{}: tensor '{}' {}", printable(source.info().path), printable(tensor), why),
              "take another copy of it, or quantize the network again");
}

void check_pair(const TensorSource& source, const SourceTensor& matrix, const SourceTensor& scales) {
  if (matrix.shape.size() != 2 || matrix.elements == 0)
    corrupt(source, matrix.name,
            fmt::format("has scales and the shape [{}], which is no matrix", fmt::join(matrix.shape, ", ")));
  if (scales.planes[0].type != ElementType::kF32 || scales.shape != std::vector{matrix.shape[0]})
    corrupt(
        source, scales.name,
        fmt::format("is {} [{}], and the rows of '{}' need F32 [{}]", printable(scales.planes[0].name, 16),
                    fmt::join(scales.shape, ", "), printable(matrix.name), matrix.shape[0]));
}

class Dequantized final : public TensorSource {
 public:
  Dequantized(std::unique_ptr<TensorSource> source, const std::vector<std::optional<size_t>>& scales)
      : source_(std::move(source)) {
    std::vector<bool> is_scale(scales.size());
    for (size_t i = 0; i < scales.size(); i++) {
      places_.push_back({i, scales[i]});
      if (scales[i]) is_scale[*scales[i]] = true;
    }
    std::erase_if(places_, [&](const Place& place) { return is_scale[place.tensor]; });
    for (const Place& place : places_) {
      SourceTensor tensor = source_->tensors()[place.tensor];
      if (place.scales) {
        tensor.bytes += source_->tensors()[*place.scales].bytes;
        tensor.stored_bytes = tensor.bytes;
        tensor.planes = {{"F32", ElementType::kF32, sizeof(float)}};
      }
      tensors_.push_back(std::move(tensor));
    }
  }

  const storage::SourceInfo& info() const override { return source_->info(); }
  std::span<const SourceTensor> tensors() const override { return tensors_; }

  void read(size_t tensor, uint32_t plane, uint64_t first_element, std::span<std::byte> to) override {
    const Place& place = places_[tensor];
    if (!place.scales) return source_->read(place.tensor, plane, first_element, to);
    HEADRACE_CHECK(plane == 0 &&
                   first_element * sizeof(float) + to.size() <= tensors_[tensor].elements * sizeof(float));
    while (!to.empty()) {
      const uint64_t count = std::min(kPieceElements, uint64_t(to.size() / sizeof(float)));
      read_piece(place, first_element, to.first(count * sizeof(float)));
      first_element += count;
      to = to.subspan(count * sizeof(float));
    }
  }

 private:
  struct Place {
    size_t tensor = 0;
    std::optional<size_t> scales;
  };

  void read_piece(const Place& place, uint64_t first, std::span<std::byte> to) {
    const SourceTensor& matrix = source_->tensors()[place.tensor];
    const uint64_t columns = matrix.shape[1], count = to.size() / sizeof(float);
    const uint64_t first_row = first / columns, last_row = (first + count - 1) / columns;
    q_.resize(count);
    scales_.resize(last_row - first_row + 1);
    source_->read(place.tensor, 0, first, std::as_writable_bytes(std::span(q_)));
    source_->read(*place.scales, 0, first_row, std::as_writable_bytes(std::span(scales_)));
    for (uint64_t r = 0; r < scales_.size(); r++)
      if (!std::isfinite(scales_[r]) || scales_[r] < 0)
        corrupt(*source_, source_->tensors()[*place.scales].name,
                fmt::format("has the scale {} in row {}", scales_[r], first_row + r));
    values_.resize(count);
    for (uint64_t done = 0; done < count;) {
      const uint64_t row = (first + done) / columns;
      const uint64_t in_row = std::min(count - done, (row + 1) * columns - (first + done));
      const math::Matrix part{values_.data() + done, 1, int64_t(in_row), int64_t(in_row)};
      math::dequantize_rows(q_.data() + done, &scales_[row - first_row], part);
      done += in_row;
    }
    std::memcpy(to.data(), values_.data(), to.size());
  }

  std::unique_ptr<TensorSource> source_;
  std::vector<Place> places_;
  std::vector<SourceTensor> tensors_;
  std::vector<int8_t> q_;
  std::vector<float> scales_, values_;
};

}  // namespace

std::vector<std::optional<size_t>> scales_of(const TensorSource& source) {
  const auto tensors = source.tensors();
  std::unordered_map<std::string, size_t> by_name;
  for (size_t i = 0; i < tensors.size(); i++) by_name.emplace(tensors[i].name, i);
  std::vector<std::optional<size_t>> scales(tensors.size());
  for (size_t i = 0; i < tensors.size(); i++) {
    if (tensors[i].planes.size() != 1 || tensors[i].planes[0].type != ElementType::kI8) continue;
    const auto found = by_name.find(tensors[i].name + kScaleSuffix);
    if (found == by_name.end()) continue;
    check_pair(source, tensors[i], tensors[found->second]);
    scales[i] = found->second;
  }
  return scales;
}

std::unique_ptr<TensorSource> dequantized(std::unique_ptr<TensorSource> source) {
  const std::vector<std::optional<size_t>> scales = scales_of(*source);
  if (std::none_of(scales.begin(), scales.end(), [](const auto& of) { return of.has_value(); }))
    return source;
  return std::make_unique<Dequantized>(std::move(source), scales);
}

}  // namespace headrace::inspect

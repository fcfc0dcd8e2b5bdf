// A run's first content from named tensors that lie somewhere else: a checkpoint, another run, safetensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/train/data_set.h"
#include "engine/train/model.h"
#include "storage/layout.h"
#include "storage/tensor_source.h"
#include "storage/tensor_values.h"

namespace headrace::train {

class SourceContent {
 public:
  // Finds each parameter of the layout in `source`, which is open for reading. State and frozen tensors are
  // not looked for: they are zeros, and the data's rows. Refers to everything. Throws Error (kUsage) where a
  // tensor is missing, or has another shape or no floating-point type.
  SourceContent(storage::TensorSource& source, const Model& model, const storage::Layout& layout,
                const DataSet* data);

  // As storage::BlockFiller, with weights in the first two planes; -0.0 becomes 0.0. Any thread; one reads at
  // a time.
  uint32_t fill(const storage::BlockLayout& block, std::span<std::byte> payload);

 private:
  struct Place {
    size_t tensor = 0;
    storage::ValueField field;
  };
  Place find(const storage::TensorPart& part) const;
  void read(const Place& place, uint64_t first_element, std::span<float> values);

  storage::TensorSource& source_;
  const storage::Layout& layout_;
  const DataSet* data_;
  std::vector<std::vector<Place>> places_;  // by tensor and part; none: not from the source
  std::mutex mutex_;
  std::vector<float> values_;
  std::vector<std::byte> bytes_, scratch_;
  std::vector<double> doubles_;
};

}  // namespace headrace::train

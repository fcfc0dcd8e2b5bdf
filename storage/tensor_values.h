// The numbers in a source's tensors: which of its planes are values, and of what type. A weight's high and
// low planes together are float32, and so are a moment's codes with their scales.
//
// Threads: any, for different sources. Failure: as of TensorSource::read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "storage/tensor_source.h"

namespace headrace::storage {

struct ValueField {
  std::string name;  // empty: the tensor's own values; "moment1" and so on: state that belongs to it
  ElementType type = ElementType::kF32;
  uint32_t plane = 0;
  bool joined = false;             // with the next plane
  std::optional<uint32_t> scales;  // the plane of these, where `plane` holds codes
};

// None for a tensor whose type is unknown. The tensor's own values come first.
std::vector<ValueField> value_fields(const SourceTensor& tensor);

// Elements from `first_element` on, as many as fill `to`, as bytes of the field's type. `scratch` is used
// where several planes are read.
void read_values(TensorSource& source, size_t tensor, const ValueField& field, uint64_t first_element,
                 std::span<std::byte> to, std::vector<std::byte>& scratch);

}  // namespace headrace::storage

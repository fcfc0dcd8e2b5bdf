// What two sources of tensors have in common, and by how much they differ where they do not.
//
// Not for more than one thread at a time. Failure: as of TensorSource::read.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "storage/tensor_source.h"
#include "storage/tensor_values.h"

namespace headrace::inspect {

// Of the values of one field of a tensor in two sources, a and b.
struct Difference {
  std::string tensor, field;   // field: as ValueField::name
  std::string a_type, b_type;  // "F32"
  uint64_t elements = 0;
  uint64_t differing = 0;     // in their bits where the types are equal, else in their values
  uint64_t incomparable = 0;  // of those: one of the two is no finite number
  double max_absolute = 0;    // |a - b|, of all that are finite
  double mean_absolute = 0;   // likewise
  double relative_norm = 0;   // |a - b| / |a|, 2-norms; infinite where only |a| is zero
};

struct ShapeDifference {
  std::string tensor;
  std::vector<uint64_t> a, b;
};

struct Comparison {
  std::vector<Difference> fields;  // in the order of a's tensors; equal ones too
  std::vector<ShapeDifference> shapes;
  std::vector<std::string> only_in_a, only_in_b;  // tensors; "name (moment1)" for a field
  std::vector<std::string> not_compared;          // of unknown types

  bool equal() const;
};

// Both opened for reading. Tensors for which `wanted` is false are left out. `done` is told the share.
Comparison compare(storage::TensorSource& a, storage::TensorSource& b,
                   const std::function<bool(const std::string& name)>& wanted,
                   const std::function<void(double fraction)>& done);

}  // namespace headrace::inspect

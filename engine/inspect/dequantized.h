// Tensors of 8-bit integers with a scale a row, seen as the numbers that they stand for.
//
// In a file such a matrix is `NAME`, I8 [rows, columns], beside `NAME.scale`, F32 [rows]
// (engine/math/quantize.h). The file comes from anywhere. Failure: Error (kCorrupt) that names tensor and
// row.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "storage/tensor_source.h"

namespace headrace::inspect {

inline constexpr const char* kScaleSuffix = ".scale";

// For each tensor the index of the scales that belong to it; nothing where it is no such matrix. Error where
// scales are there and do not fit.
std::vector<std::optional<size_t>> scales_of(const storage::TensorSource& source);

// `source`, in which each such pair is one tensor of float32, its bytes those of the pair. Reading it reads
// and checks the scales of the rows that are read. A source without such pairs is returned as it is.
std::unique_ptr<storage::TensorSource> dequantized(std::unique_ptr<storage::TensorSource> source);

}  // namespace headrace::inspect

// Views of matrices in memory that somebody else owns. Row-major; `stride` counts elements between rows.
#pragma once

#include <cstdint>

#include "storage/error.h"

namespace headrace::math {

struct ConstMatrix {
  const float* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;

  const float* row(int64_t r) const { return data + r * stride; }
  // Columns [first, first + count).
  ConstMatrix column_range(int64_t first, int64_t count) const { return {data + first, rows, count, stride}; }
  ConstMatrix row_range(int64_t first, int64_t count) const { return {row(first), count, columns, stride}; }
};

struct Matrix {
  float* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;

  float* row(int64_t r) const { return data + r * stride; }
  Matrix column_range(int64_t first, int64_t count) const { return {data + first, rows, count, stride}; }
  Matrix row_range(int64_t first, int64_t count) const { return {row(first), count, columns, stride}; }
  operator ConstMatrix() const { return {data, rows, columns, stride}; }
};

// Rows of a weight as its block stores them: contiguous row-major planes of 16-bit halves. The value of an
// element is the float32 with bits (high << 16) + int16(low); without a low plane, high << 16 (bfloat16).
struct WeightView {
  const uint16_t* high = nullptr;
  const uint16_t* low = nullptr;  // null: compute with the high plane alone
  int64_t rows = 0, columns = 0;
};

}  // namespace headrace::math

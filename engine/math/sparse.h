// The sparse product of graph layers. As the other kernels: plain functions over views, work is spread over
// the calling oneTBB arena, nothing is allocated, and the bits depend on nothing but the operands.
#pragma once

#include <cstdint>

#include "engine/math/views.h"

namespace headrace::math {

// A symmetric matrix [rows, rows] of the elements scale[i] * scale[j], at the columns named for each row in
// ascending order.
struct Adjacency {
  const int64_t* first = nullptr;  // [rows + 1]: where a row's columns begin
  const int32_t* columns = nullptr;
  const float* scale = nullptr;  // [rows]
  int64_t rows = 0;
};

// y = a x + bias: x, y [rows, n]; bias [n] or null. Each element is scale[i] times a sum over the row's
// columns in order, of chains of at most kPanel multiply-adds; the chains are added in order. Being
// symmetric, it is its own backward: dx = a dy.
void aggregate(const Adjacency& a, ConstMatrix x, const float* bias, Matrix y);

}  // namespace headrace::math

// Batch norm over the rows of x [rows, n], which may come in parts (Ioffe and Szegedy 2015). Sums over rows
// are doubles, each column's added in the order of the rows, so that no bit depends on how the rows are cut.
//
// Plain functions over views; work is spread over the calling oneTBB arena; nothing is allocated.
#pragma once

#include "engine/math/views.h"

namespace headrace::math {

// sums[0, n) += the columns' sums, sums[n, 2n) += those of the squares.
void add_column_moments(ConstMatrix x, double* sums);

// What x is normalized with: (x - mean) * inverse_deviation.
struct ColumnMoments {
  const float* mean = nullptr;               // [n]
  const float* inverse_deviation = nullptr;  // [n]: 1 / sqrt(variance + epsilon)
};

// y = (x - mean) * inverse_deviation * weight + bias; weight, bias [n].
void batch_norm(ConstMatrix x, ColumnMoments moments, const float* weight, const float* bias, Matrix y);

// sums[0, n) += the columns' sums of dy, sums[n, 2n) += those of dy times the normalized x.
void add_batch_norm_gradients(ConstMatrix x, ColumnMoments moments, ConstMatrix dy, double* sums);

// dx = weight inverse_deviation (dy - sums[0, n) / rows - xhat sums[n, 2n) / rows), with the sums over all
// `rows` of the batch; dx may be dy.
void batch_norm_backward(ConstMatrix x, ColumnMoments moments, const float* weight, const double* sums,
                         int64_t rows, ConstMatrix dy, Matrix dx);

}  // namespace headrace::math

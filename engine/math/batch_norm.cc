#include "engine/math/batch_norm.h"

#include "engine/math/parallel.h"
#include "storage/error.h"

namespace headrace::math {
namespace {

constexpr int64_t kColumnBlock = 64;  // a task takes all rows of so many columns, in order

bool same_shape(ConstMatrix a, ConstMatrix b) { return a.rows == b.rows && a.columns == b.columns; }

float normalized(const ConstMatrix& x, const ColumnMoments& moments, int64_t r, int64_t c) {
  return (x.row(r)[c] - moments.mean[c]) * moments.inverse_deviation[c];
}

}  // namespace

void add_column_moments(ConstMatrix x, double* sums) {
  parallel_blocks(x.columns, kColumnBlock, [&](int64_t first, int64_t last) {
    for (int64_t r = 0; r < x.rows; r++)
      for (int64_t c = first; c < last; c++) {
        const double value = double(x.row(r)[c]);
        sums[c] += value;
        sums[x.columns + c] += value * value;  // exact, before it is added
      }
  });
}

void batch_norm(ConstMatrix x, ColumnMoments moments, const float* weight, const float* bias, Matrix y) {
  HEADRACE_CHECK(same_shape(x, y));
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++)
      for (int64_t c = 0; c < x.columns; c++)
        y.row(r)[c] = normalized(x, moments, r, c) * weight[c] + bias[c];
  });
}

void add_batch_norm_gradients(ConstMatrix x, ColumnMoments moments, ConstMatrix dy, double* sums) {
  HEADRACE_CHECK(same_shape(x, dy));
  parallel_blocks(x.columns, kColumnBlock, [&](int64_t first, int64_t last) {
    for (int64_t r = 0; r < x.rows; r++)
      for (int64_t c = first; c < last; c++) {
        const double gradient = double(dy.row(r)[c]);
        sums[c] += gradient;
        sums[x.columns + c] += gradient * double(normalized(x, moments, r, c));
      }
  });
}

void batch_norm_backward(ConstMatrix x, ColumnMoments moments, const float* weight, const double* sums,
                         int64_t rows, ConstMatrix dy, Matrix dx) {
  HEADRACE_CHECK(same_shape(x, dy) && same_shape(x, dx));
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++)
      for (int64_t c = 0; c < x.columns; c++) {
        const auto mean = float(sums[c] / double(rows)), product = float(sums[x.columns + c] / double(rows));
        const float centred = dy.row(r)[c] - mean - normalized(x, moments, r, c) * product;
        dx.row(r)[c] = weight[c] * moments.inverse_deviation[c] * centred;
      }
  });
}

}  // namespace headrace::math

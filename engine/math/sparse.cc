#include "engine/math/sparse.h"

#include <algorithm>

#include "engine/math/gemm.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/sparse.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// `kVectors` times sixteen columns from `at` on: neighbours' rows are gathered once for all of them.
template <int kVectors>
HWY_INLINE void sum_of_neighbours(const Adjacency& a, const ConstMatrix& x, int64_t row, int64_t at,
                                  int64_t n, const float* bias, float* y) {
  Floats total[kVectors];
  for (Floats& value : total) value = broadcast(0);
  const int64_t end = a.first[row + 1];
  for (int64_t panel = a.first[row]; panel < end; panel += kPanel) {
    Floats chain[kVectors];
    for (Floats& value : chain) value = broadcast(0);
    for (int64_t i = panel; i < std::min(end, panel + kPanel); i++) {
      const int64_t column = a.columns[i];
      const Floats scale = broadcast(a.scale[column]);
      const float* from = x.row(column) + at;
      for (int v = 0; v < kVectors; v++)
        chain[v] = fused(scale, load(from + v * kLanes, n - at - v * kLanes), chain[v]);
    }
    for (int v = 0; v < kVectors; v++) total[v] = total[v] + chain[v];
  }
  const Floats scale = broadcast(a.scale[row]);
  for (int v = 0; v < kVectors; v++) {
    const int64_t column = at + v * kLanes;
    Floats value = scale * total[v];
    if (bias != nullptr) value = value + load(bias + column, n - column);
    store(value, y + column, n - column);
  }
}

HWY_NOINLINE void aggregate_row(const Adjacency& a, const ConstMatrix& x, int64_t row, const float* bias,
                                float* y) {
  constexpr int kTogether = 4;
  int64_t at = 0;
  for (; at + (kTogether - 1) * kLanes < x.columns; at += kTogether * kLanes)
    sum_of_neighbours<kTogether>(a, x, row, at, x.columns, bias, y);
  for (; at < x.columns; at += kLanes) sum_of_neighbours<1>(a, x, row, at, x.columns, bias, y);
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(aggregate_row);

constexpr int64_t kTermsPerTask = 64 * 1024;

}  // namespace

void aggregate(const Adjacency& a, ConstMatrix x, const float* bias, Matrix y) {
  HEADRACE_CHECK(x.rows == a.rows && y.rows == a.rows && x.columns == y.columns);
  // Tasks of about equal work, if nodes have about equally many neighbours.
  const int64_t terms = a.first[a.rows] / std::max<int64_t>(1, a.rows) * x.columns;
  parallel_blocks(a.rows, std::max<int64_t>(1, kTermsPerTask / std::max<int64_t>(1, terms)),
                  [&](int64_t first, int64_t last) {
                    for (int64_t r = first; r < last; r++)
                      HWY_DYNAMIC_DISPATCH(aggregate_row)(a, x, r, bias, y.row(r));
                  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

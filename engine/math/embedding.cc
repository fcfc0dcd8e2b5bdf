#include "engine/math/kernels.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/embedding.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void embed_row(const RowPlanes& token, const RowPlanes& position, int64_t n, float* x) {
  const auto planes = [n](const RowPlanes& row, int64_t i) HWY_ATTR {
    return load_planes(row.high + i, row.low == nullptr ? nullptr : row.low + i, n - i);
  };
  for (int64_t i = 0; i < n; i += kLanes) store(planes(token, i) + planes(position, i), x + i, n - i);
}

HWY_NOINLINE void accumulate_row(const float* x, int64_t n, float* total) {
  for (int64_t i = 0; i < n; i += kLanes)
    store(load(total + i, n - i) + load(x + i, n - i), total + i, n - i);
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <algorithm>

namespace headrace::math {
namespace {

HWY_EXPORT(embed_row);
HWY_EXPORT(accumulate_row);

constexpr int64_t kColumnBlock = 64;  // of a gradient row; a task takes all tokens, in order

}  // namespace

void embed(std::span<const RowPlanes> token_rows, WeightView positions, int64_t sequence, Matrix x) {
  HEADRACE_CHECK(std::ssize(token_rows) == x.rows && positions.columns == x.columns);
  HEADRACE_CHECK(sequence <= positions.rows);
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      const int64_t offset = t % sequence * positions.columns;
      const RowPlanes position{positions.high + offset,
                               positions.low == nullptr ? nullptr : positions.low + offset};
      HWY_DYNAMIC_DISPATCH(embed_row)(token_rows[static_cast<size_t>(t)], position, x.columns, x.row(t));
    }
  });
}

void embed_backward(ConstMatrix dx, std::span<const int32_t> ids, int64_t first_row, Matrix dw) {
  HEADRACE_CHECK(std::ssize(ids) == dx.rows && dx.columns == dw.columns);
  parallel_blocks(dx.columns, kColumnBlock, [&](int64_t first, int64_t last) {
    for (int64_t t = 0; t < dx.rows; t++) {
      const int64_t row = ids[static_cast<size_t>(t)] - first_row;
      if (row < 0 || row >= dw.rows) continue;
      HWY_DYNAMIC_DISPATCH(accumulate_row)(dx.row(t) + first, last - first, dw.row(row) + first);
    }
  });
}

void position_backward(ConstMatrix dx, int64_t sequence, Matrix dposition, bool accumulate) {
  HEADRACE_CHECK(dx.rows % sequence == 0 && dposition.rows == sequence && dposition.columns == dx.columns);
  parallel_rows(sequence, dx.columns, [&](int64_t first, int64_t last) {
    for (int64_t p = first; p < last; p++) {
      int64_t t = p;
      if (!accumulate) {
        std::copy_n(dx.row(t), dx.columns, dposition.row(p));
        t += sequence;
      }
      for (; t < dx.rows; t += sequence) {
        HWY_DYNAMIC_DISPATCH(accumulate_row)(dx.row(t), dx.columns, dposition.row(p));
      }
    }
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

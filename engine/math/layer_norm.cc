#include <algorithm>
#include <cmath>

#include "engine/math/gemm.h"
#include "engine/math/kernels.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/layer_norm.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

#ifndef HEADRACE_LAYER_NORM_MOMENTS
#define HEADRACE_LAYER_NORM_MOMENTS
namespace headrace::math {
// Of one token's row: x is normalized as (x - mean) * inverse_deviation.
struct RowMoments {
  float mean, inverse_deviation;
};
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// Sums in double, the variance about the mean in a second pass: exact enough wherever the mean lies.
HWY_NOINLINE RowMoments row_moments(const float* x, int64_t n, float epsilon) {
  Doubles total = broadcast_double(0);
  for (int64_t i = 0; i + kLanes <= n; i += kLanes) total = total + load_double(x + i);
  const int64_t rest = n % kLanes, whole = n - rest;
  if (rest != 0) total = total + widen(load(x + whole, rest));
  const double mean = sum(total) / static_cast<double>(n);

  Doubles squares = broadcast_double(0);
  for (int64_t i = 0; i + kLanes <= n; i += kLanes) {
    const Doubles difference = load_double(x + i) - broadcast_double(mean);
    squares = squares + difference * difference;
  }
  double variance = sum(squares);
  for (int64_t i = whole; i < n; i++) variance += (x[i] - mean) * (x[i] - mean);
  variance /= static_cast<double>(n);
  return {static_cast<float>(mean),
          static_cast<float>(1 / std::sqrt(variance + static_cast<double>(epsilon)))};
}

HWY_INLINE Floats normalized(const float* x, int64_t i, int64_t n, RowMoments moments) {
  return (load(x + i, n - i) - broadcast(moments.mean)) * broadcast(moments.inverse_deviation);
}

HWY_NOINLINE void layer_norm_row(const float* x, const float* weight, const float* bias, float epsilon,
                                 int64_t n, float* y) {
  const RowMoments moments = row_moments(x, n, epsilon);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats value = normalized(x, i, n, moments);
    store(fused(value, load(weight + i, n - i), load(bias + i, n - i)), y + i, n - i);
  }
}

// dx (+)= inverse_deviation (g - mean(g) - xhat mean(g xhat)) with g = dy weight and xhat the normalized x.
HWY_NOINLINE RowMoments layer_norm_backward_row(const float* x, const float* weight, float epsilon,
                                                const float* dy, int64_t n, float* dx, bool add) {
  const RowMoments moments = row_moments(x, n, epsilon);
  Doubles total = broadcast_double(0), product = broadcast_double(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats g = load(dy + i, n - i) * load(weight + i, n - i);
    total = total + widen(g);
    product = product + widen(g * normalized(x, i, n, moments));
  }
  const Floats mean_g = broadcast(static_cast<float>(sum(total) / static_cast<double>(n)));
  const Floats minus_mean_product = broadcast(static_cast<float>(-sum(product) / static_cast<double>(n)));
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats g = load(dy + i, n - i) * load(weight + i, n - i);
    const Floats centred = fused(normalized(x, i, n, moments), minus_mean_product, g - mean_g);
    const Floats value = centred * broadcast(moments.inverse_deviation);
    store(add ? load(dx + i, n - i) + value : value, dx + i, n - i);
  }
  return moments;
}

// Adds one panel of tokens to columns [0, n) of dweight and dbias, or starts them with it.
HWY_NOINLINE void layer_norm_parameter_panel(ConstMatrix x, ConstMatrix dy, const RowMoments* moments,
                                             float* dweight, float* dbias, bool accumulate) {
  for (int64_t i = 0; i < x.columns; i += kLanes) {
    const int64_t left = x.columns - i;
    Floats weight_sum = broadcast(0), bias_sum = broadcast(0);
    for (int64_t t = 0; t < x.rows; t++) {
      const Floats gradient = load(dy.row(t) + i, left);
      weight_sum = fused(gradient, normalized(x.row(t), i, x.columns, moments[t]), weight_sum);
      bias_sum = bias_sum + gradient;
    }
    store(accumulate ? load(dweight + i, left) + weight_sum : weight_sum, dweight + i, left);
    store(accumulate ? load(dbias + i, left) + bias_sum : bias_sum, dbias + i, left);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(layer_norm_row);
HWY_EXPORT(layer_norm_backward_row);
HWY_EXPORT(layer_norm_parameter_panel);

constexpr int64_t kColumnBlock = 64;  // a task takes all tokens of so many columns, in order

}  // namespace

void layer_norm(ConstMatrix x, const float* weight, const float* bias, float epsilon, Matrix y) {
  HEADRACE_CHECK(x.rows == y.rows && x.columns == y.columns);
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      HWY_DYNAMIC_DISPATCH(layer_norm_row)(x.row(t), weight, bias, epsilon, x.columns, y.row(t));
    }
  });
}

void layer_norm_backward(ConstMatrix x, const float* weight, float epsilon, ConstMatrix dy, int64_t sequence,
                         Matrix dx, bool add, float* dweight, float* dbias, bool accumulate,
                         std::span<std::byte> workspace) {
  HEADRACE_CHECK(x.rows == dy.rows && x.rows == dx.rows && x.columns == dy.columns);
  HEADRACE_CHECK(sequence > 0);
  HEADRACE_CHECK(workspace.size() >= layer_norm_backward_workspace_bytes(x.rows, x.columns, sequence));
  auto* moments = reinterpret_cast<RowMoments*>(workspace.data());
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t t = first; t < last; t++) {
      moments[t] = HWY_DYNAMIC_DISPATCH(layer_norm_backward_row)(x.row(t), weight, epsilon, dy.row(t),
                                                                 x.columns, dx.row(t), add);
    }
  });
  parallel_blocks(x.columns, kColumnBlock, [&](int64_t first, int64_t last) {
    const ConstMatrix x_columns = x.column_range(first, last - first);
    const ConstMatrix dy_columns = dy.column_range(first, last - first);
    for (int64_t start = 0; start < x.rows; start += sequence) {
      const int64_t count = std::min(sequence, x.rows - start);
      for (int64_t panel = 0; panel < count; panel += kPanel) {
        const int64_t t = start + panel, rows = std::min(kPanel, count - panel);
        HWY_DYNAMIC_DISPATCH(layer_norm_parameter_panel)
        (x_columns.row_range(t, rows), dy_columns.row_range(t, rows), moments + t, dweight + first,
         dbias + first, accumulate || t > 0);
      }
    }
  });
}

size_t layer_norm_backward_workspace_bytes(int64_t tokens, int64_t /*n*/, int64_t /*sequence*/) {
  return sizeof(RowMoments) * static_cast<size_t>(tokens);
}

}  // namespace headrace::math
#endif  // HWY_ONCE

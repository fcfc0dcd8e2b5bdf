#include "engine/math/kernels.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/gelu.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// 0.5 x (1 + tanh(u)) = x sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3). Through the sigmoid nothing
// cancels where x is very negative.
constexpr float kTwoRootTwoOverPi = 1.5957691216F;
constexpr float kCubic = 0.044715F;

struct Sigmoid {
  Floats value, complement;  // of 2 u; complement = 1 - value
};

HWY_INLINE Sigmoid gelu_sigmoid(Floats x, Floats square) {
  const Floats one = broadcast(1), zero = broadcast(0);
  const Floats twice_u = broadcast(kTwoRootTwoOverPi) * (x * fused(broadcast(kCubic), square, one));
  const Floats e = exp(zero - absolute(twice_u));
  const Floats large = one / (one + e), small = e * large;
  return {where_less(twice_u, zero, small, large), where_less(twice_u, zero, large, small)};
}

HWY_NOINLINE void gelu_row(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats value = load(x + i, n - i);
    store(value * gelu_sigmoid(value, value * value).value, y + i, n - i);
  }
}

HWY_NOINLINE void gelu_backward_row(const float* x, const float* dy, int64_t n, float* dx) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats value = load(x + i, n - i), square = value * value;
    const Sigmoid sigmoid = gelu_sigmoid(value, square);
    const Floats twice_slope =
        broadcast(kTwoRootTwoOverPi) * fused(broadcast(3 * kCubic), square, broadcast(1));
    const Floats curve = value * (sigmoid.value * sigmoid.complement);
    store(load(dy + i, n - i) * fused(curve, twice_slope, sigmoid.value), dx + i, n - i);
  }
}

HWY_NOINLINE void add_row(const float* a, const float* b, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) store(load(a + i, n - i) + load(b + i, n - i), y + i, n - i);
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(gelu_row);
HWY_EXPORT(gelu_backward_row);
HWY_EXPORT(add_row);

bool same_shape(ConstMatrix a, ConstMatrix b) { return a.rows == b.rows && a.columns == b.columns; }

}  // namespace

void gelu(ConstMatrix x, Matrix y) {
  HEADRACE_CHECK(same_shape(x, y));
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) HWY_DYNAMIC_DISPATCH(gelu_row)(x.row(r), x.columns, y.row(r));
  });
}

void gelu_backward(ConstMatrix x, ConstMatrix dy, Matrix dx) {
  HEADRACE_CHECK(same_shape(x, dy) && same_shape(x, dx));
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
      HWY_DYNAMIC_DISPATCH(gelu_backward_row)(x.row(r), dy.row(r), x.columns, dx.row(r));
    }
  });
}

void add(ConstMatrix a, ConstMatrix b, Matrix y) {
  HEADRACE_CHECK(same_shape(a, b) && same_shape(a, y));
  parallel_rows(a.rows, a.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
      HWY_DYNAMIC_DISPATCH(add_row)(a.row(r), b.row(r), a.columns, y.row(r));
    }
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

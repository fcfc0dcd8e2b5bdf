#include "engine/math/activations.h"

#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "storage/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/activations.cc"
#include <hwy/foreach_target.h>

#include "engine/math/activations-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void relu_row(const float* x, int64_t n, float* y) {
  const Floats zero = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats value = load(x + i, n - i);
    store(where_less(value, zero, zero, value), y + i, n - i);
  }
}

HWY_NOINLINE void relu_backward_row(const float* x, const float* dy, int64_t n, float* dx) {
  const Floats zero = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    store(where_less(zero, load(x + i, n - i), load(dy + i, n - i), zero), dx + i, n - i);
  }
}

HWY_NOINLINE void tanh_row(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) store(hyperbolic_tangent(load(x + i, n - i)), y + i, n - i);
}

HWY_NOINLINE void tanh_backward_row(const float* x, const float* dy, int64_t n, float* dx) {
  for (int64_t i = 0; i < n; i += kLanes) {
    store(load(dy + i, n - i) * hyperbolic_tangent_slope(load(x + i, n - i)), dx + i, n - i);
  }
}

HWY_NOINLINE void sigmoid_row(const float* x, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) store(logistic(load(x + i, n - i)).value, y + i, n - i);
}

HWY_NOINLINE void sigmoid_backward_row(const float* x, const float* dy, int64_t n, float* dx) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const Logistic value = logistic(load(x + i, n - i));
    store(load(dy + i, n - i) * (value.value * value.complement), dx + i, n - i);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(relu_row);
HWY_EXPORT(relu_backward_row);
HWY_EXPORT(tanh_row);
HWY_EXPORT(tanh_backward_row);
HWY_EXPORT(sigmoid_row);
HWY_EXPORT(sigmoid_backward_row);

using ForwardRow = void (*)(const float* x, int64_t n, float* y);
using BackwardRow = void (*)(const float* x, const float* dy, int64_t n, float* dx);

bool same_shape(ConstMatrix a, ConstMatrix b) { return a.rows == b.rows && a.columns == b.columns; }

void apply(ForwardRow row, ConstMatrix x, Matrix y) {
  HEADRACE_CHECK(same_shape(x, y));
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) row(x.row(r), x.columns, y.row(r));
  });
}

void apply(BackwardRow row, ConstMatrix x, ConstMatrix dy, Matrix dx) {
  HEADRACE_CHECK(same_shape(x, dy) && same_shape(x, dx));
  parallel_rows(x.rows, x.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) row(x.row(r), dy.row(r), x.columns, dx.row(r));
  });
}

}  // namespace

void relu(ConstMatrix x, Matrix y) { apply(HWY_DYNAMIC_DISPATCH(relu_row), x, y); }
void relu_backward(ConstMatrix x, ConstMatrix dy, Matrix dx) {
  apply(HWY_DYNAMIC_DISPATCH(relu_backward_row), x, dy, dx);
}

void tanh(ConstMatrix x, Matrix y) { apply(HWY_DYNAMIC_DISPATCH(tanh_row), x, y); }
void tanh_backward(ConstMatrix x, ConstMatrix dy, Matrix dx) {
  apply(HWY_DYNAMIC_DISPATCH(tanh_backward_row), x, dy, dx);
}

void sigmoid(ConstMatrix x, Matrix y) { apply(HWY_DYNAMIC_DISPATCH(sigmoid_row), x, y); }
void sigmoid_backward(ConstMatrix x, ConstMatrix dy, Matrix dx) {
  apply(HWY_DYNAMIC_DISPATCH(sigmoid_backward_row), x, dy, dx);
}

}  // namespace headrace::math
#endif  // HWY_ONCE

#include "engine/math/dense_losses.h"

#include <algorithm>
#include <cmath>

#include "engine/math/exact.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "storage/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/dense_losses.cc"
#include <hwy/foreach_target.h>

#include "engine/math/activations-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// e^-|y|
HWY_NOINLINE void decay_row(const float* y, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += kLanes)
    store(exp(broadcast(0) - absolute(load(y + i, n - i))), out + i, n - i);
}

HWY_NOINLINE void squared_error_backward_row(const float* y, const float* target, int64_t n, float scale,
                                             float* dy) {
  const Floats factor = broadcast(2 * scale);
  for (int64_t i = 0; i < n; i += kLanes)
    store(factor * (load(y + i, n - i) - load(target + i, n - i)), dy + i, n - i);
}

HWY_NOINLINE void binary_cross_entropy_backward_row(const float* y, const float* target, int64_t n,
                                                    float scale, float* dy) {
  const Floats factor = broadcast(scale);
  for (int64_t i = 0; i < n; i += kLanes)
    store(factor * (logistic(load(y + i, n - i)).value - load(target + i, n - i)), dy + i, n - i);
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(decay_row);
HWY_EXPORT(squared_error_backward_row);
HWY_EXPORT(binary_cross_entropy_backward_row);

bool same_shape(ConstMatrix a, ConstMatrix b) { return a.rows == b.rows && a.columns == b.columns; }

}  // namespace

double squared_error_sum(ConstMatrix y, ConstMatrix target) {
  HEADRACE_CHECK(same_shape(y, target));
  double sum = 0;
  for (int64_t r = 0; r < y.rows; r++)
    for (int64_t c = 0; c < y.columns; c++) {
      const double difference = double(y.row(r)[c]) - double(target.row(r)[c]);
      sum += difference * difference;
    }
  return sum;
}

void squared_error_backward(ConstMatrix y, ConstMatrix target, float scale, Matrix dy) {
  HEADRACE_CHECK(same_shape(y, target) && same_shape(y, dy));
  parallel_rows(y.rows, y.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) HWY_DYNAMIC_DISPATCH(squared_error_backward_row)
    (y.row(r), target.row(r), y.columns, scale, dy.row(r));
  });
}

double binary_cross_entropy_sum(ConstMatrix y, ConstMatrix target) {
  HEADRACE_CHECK(same_shape(y, target));
  constexpr int64_t kPiece = 256;
  float decay[kPiece];
  double sum = 0;
  for (int64_t r = 0; r < y.rows; r++)
    for (int64_t first = 0; first < y.columns; first += kPiece) {
      const int64_t count = std::min(kPiece, y.columns - first);
      const float* logit = y.row(r) + first;
      HWY_DYNAMIC_DISPATCH(decay_row)(logit, count, decay);
      for (int64_t i = 0; i < count; i++) {
        const double value = double(logit[i]);
        // A logit that is no number makes the loss none.
        const double positive = value < 0 ? 0 : value;
        sum += positive - value * double(target.row(r)[first + i]) + exact_log(1 + double(decay[i]));
      }
    }
  return sum;
}

void binary_cross_entropy_backward(ConstMatrix y, ConstMatrix target, float scale, Matrix dy) {
  HEADRACE_CHECK(same_shape(y, target) && same_shape(y, dy));
  parallel_rows(y.rows, y.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) HWY_DYNAMIC_DISPATCH(binary_cross_entropy_backward_row)
    (y.row(r), target.row(r), y.columns, scale, dy.row(r));
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

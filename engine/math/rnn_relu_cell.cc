#include "engine/math/rnn_relu_cell.h"

#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/rnn_relu_cell.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void rnn_relu_row(const CellStep& s, int64_t r) {
  const int64_t n = s.h.columns;
  const Floats zero = broadcast(0);
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    const Floats sum = load(s.gates.row(r) + j, k) + load(s.recurrent.row(r) + j, k);
    store(where_less(sum, zero, zero, sum), s.h.row(r) + j, k);
  }
}

HWY_NOINLINE void rnn_relu_backward_row(const CellGradient& s, int64_t r) {
  const int64_t n = s.h.columns;
  const Floats zero = broadcast(0);
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    store(where_less(zero, load(s.h.row(r) + j, k), load(s.dh.row(r) + j, k), zero), s.gates.row(r) + j, k);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(rnn_relu_row);
HWY_EXPORT(rnn_relu_backward_row);

void forward(const CellStep& step) {
  for_each_lane(step.h.rows, step.h.columns, [&](int64_t r) { HWY_DYNAMIC_DISPATCH(rnn_relu_row)(step, r); });
}

void backward(const CellGradient& step) {
  for_each_lane(step.dh.rows, step.dh.columns, [&](int64_t r) {
    HWY_DYNAMIC_DISPATCH(rnn_relu_backward_row)(step, r);
  });
}

}  // namespace

RecurrentCell rnn_relu_cell() {
  return {.name = "rnn-relu", .title = "rectifier", .gates = 1, .forward = forward, .backward = backward};
}

}  // namespace headrace::math
#endif  // HWY_ONCE

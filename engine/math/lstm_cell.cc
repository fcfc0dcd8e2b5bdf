#include "engine/math/lstm_cell.h"

#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/lstm_cell.cc"
#include <hwy/foreach_target.h>

#include "engine/math/recurrent_cell-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void lstm_row(const CellStep& s, int64_t r) {
  const int64_t n = s.h.columns;
  float* gates = s.gates.row(r);
  const float* recurrent = s.recurrent.row(r);
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    const auto sum = [&](int64_t gate) {
      return load(gates + gate * n + j, k) + load(recurrent + gate * n + j, k);
    };
    const Floats i = sigmoid(sum(0)), f = sigmoid(sum(1)), g = tanh(sum(2)), o = sigmoid(sum(3));
    const Floats c = fused(f, load(s.c_before.row(r) + j, k), i * g);
    store(i, gates + j, k);
    store(f, gates + n + j, k);
    store(g, gates + 2 * n + j, k);
    store(o, gates + 3 * n + j, k);
    store(c, s.c.row(r) + j, k);
    store(o * tanh(c), s.h.row(r) + j, k);
  }
}

HWY_NOINLINE void lstm_backward_row(const CellGradient& s, int64_t r) {
  const int64_t n = s.h.columns;
  float* gates = s.gates.row(r);
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    const Floats i = load(gates + j, k), f = load(gates + n + j, k), g = load(gates + 2 * n + j, k),
                 o = load(gates + 3 * n + j, k);
    const Floats t = tanh(load(s.c.row(r) + j, k)), dh = load(s.dh.row(r) + j, k);
    const Floats dc = fused(dh * o, tanh_slope(t), load(s.dc.row(r) + j, k));
    store(dc * g * sigmoid_slope(i), gates + j, k);
    store(dc * load(s.c_before.row(r) + j, k) * sigmoid_slope(f), gates + n + j, k);
    store(dc * i * tanh_slope(g), gates + 2 * n + j, k);
    store(dh * t * sigmoid_slope(o), gates + 3 * n + j, k);
    store(dc * f, s.dc.row(r) + j, k);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(lstm_row);
HWY_EXPORT(lstm_backward_row);

void forward(const CellStep& step) {
  for_each_lane(step.h.rows, step.h.columns, [&](int64_t r) { HWY_DYNAMIC_DISPATCH(lstm_row)(step, r); });
}

void backward(const CellGradient& step) {
  for_each_lane(step.dh.rows, step.dh.columns, [&](int64_t r) {
    HWY_DYNAMIC_DISPATCH(lstm_backward_row)(step, r);
  });
}

}  // namespace

RecurrentCell lstm_cell() {
  return {.name = "lstm",
          .title = "LSTM",
          .gates = 4,
          .has_cell_state = true,
          .forward = forward,
          .backward = backward};
}

}  // namespace headrace::math
#endif  // HWY_ONCE

#include "engine/math/gru_cell.h"

#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/gru_cell.cc"
#include <hwy/foreach_target.h>

#include "engine/math/recurrent_cell-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void gru_row(const CellStep& s, int64_t r) {
  const int64_t n = s.h.columns;
  float* gates = s.gates.row(r);
  const float* recurrent = s.recurrent.row(r);
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    const Floats reset = sigmoid(load(gates + j, k) + load(recurrent + j, k));
    const Floats update = sigmoid(load(gates + n + j, k) + load(recurrent + n + j, k));
    const Floats fresh = tanh(fused(reset, load(recurrent + 2 * n + j, k), load(gates + 2 * n + j, k)));
    store(reset, gates + j, k);
    store(update, gates + n + j, k);
    store(fresh, gates + 2 * n + j, k);
    store(fused(update, load(s.h_before.row(r) + j, k) - fresh, fresh), s.h.row(r) + j, k);
  }
}

HWY_NOINLINE void gru_backward_row(const CellGradient& s, int64_t r) {
  const int64_t n = s.h.columns;
  float *gates = s.gates.row(r), *recurrent = s.recurrent.row(r);
  const Floats one = broadcast(1);
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    const Floats reset = load(gates + j, k), update = load(gates + n + j, k),
                 fresh = load(gates + 2 * n + j, k);
    const Floats dh = load(s.dh.row(r) + j, k);
    const Floats dfresh = dh * (one - update) * tanh_slope(fresh);
    const Floats dreset = dfresh * load(recurrent + 2 * n + j, k) * sigmoid_slope(reset);
    const Floats dupdate = dh * (load(s.h_before.row(r) + j, k) - fresh) * sigmoid_slope(update);
    for (float* to : {gates, recurrent}) {
      store(dreset, to + j, k);
      store(dupdate, to + n + j, k);
    }
    store(dfresh, gates + 2 * n + j, k);
    store(dfresh * reset, recurrent + 2 * n + j, k);
    store(dh * update, s.dh_before.row(r) + j, k);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(gru_row);
HWY_EXPORT(gru_backward_row);

void forward(const CellStep& step) {
  for_each_lane(step.h.rows, step.h.columns, [&](int64_t r) { HWY_DYNAMIC_DISPATCH(gru_row)(step, r); });
}

void backward(const CellGradient& step) {
  for_each_lane(step.dh.rows, step.dh.columns, [&](int64_t r) {
    HWY_DYNAMIC_DISPATCH(gru_backward_row)(step, r);
  });
}

}  // namespace

RecurrentCell gru_cell() {
  return {.name = "gru",
          .title = "GRU",
          .gates = 3,
          .separate_recurrent = true,
          .forward = forward,
          .backward = backward};
}

}  // namespace headrace::math
#endif  // HWY_ONCE

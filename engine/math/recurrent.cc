#include "engine/math/recurrent.h"

#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/recurrent.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// s (1 - s): the sigmoid's slope by its value.
HWY_INLINE Floats sigmoid_slope(Floats s) { return s * (broadcast(1) - s); }
HWY_INLINE Floats tanh_slope(Floats t) { return broadcast(1) - t * t; }

HWY_NOINLINE void rnn_row(const CellStep& s, int64_t r) {
  const int64_t n = s.h.columns;
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    store(tanh(load(s.gates.row(r) + j, k) + load(s.recurrent.row(r) + j, k)), s.h.row(r) + j, k);
  }
}

HWY_NOINLINE void rnn_backward_row(const CellGradient& s, int64_t r) {
  const int64_t n = s.h.columns;
  for (int64_t j = 0; j < n; j += kLanes) {
    const int64_t k = n - j;
    store(load(s.dh.row(r) + j, k) * tanh_slope(load(s.h.row(r) + j, k)), s.gates.row(r) + j, k);
  }
}

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

HWY_EXPORT(rnn_row);
HWY_EXPORT(rnn_backward_row);
HWY_EXPORT(lstm_row);
HWY_EXPORT(lstm_backward_row);
HWY_EXPORT(gru_row);
HWY_EXPORT(gru_backward_row);

template <class Body>
void for_rows(int64_t lanes, int64_t columns, const Body& body) {
  parallel_rows(lanes, 8 * columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) body(r);
  });
}

}  // namespace

void rnn_cell(const CellStep& step) {
  for_rows(step.h.rows, step.h.columns, [&](int64_t r) { HWY_DYNAMIC_DISPATCH(rnn_row)(step, r); });
}

void rnn_cell_backward(const CellGradient& step) {
  for_rows(step.dh.rows, step.dh.columns, [&](int64_t r) {
    HWY_DYNAMIC_DISPATCH(rnn_backward_row)(step, r);
  });
}

void lstm_cell(const CellStep& step) {
  for_rows(step.h.rows, step.h.columns, [&](int64_t r) { HWY_DYNAMIC_DISPATCH(lstm_row)(step, r); });
}

void lstm_cell_backward(const CellGradient& step) {
  for_rows(step.dh.rows, step.dh.columns, [&](int64_t r) {
    HWY_DYNAMIC_DISPATCH(lstm_backward_row)(step, r);
  });
}

void gru_cell(const CellStep& step) {
  for_rows(step.h.rows, step.h.columns, [&](int64_t r) { HWY_DYNAMIC_DISPATCH(gru_row)(step, r); });
}

void gru_cell_backward(const CellGradient& step) {
  for_rows(step.dh.rows, step.dh.columns, [&](int64_t r) {
    HWY_DYNAMIC_DISPATCH(gru_backward_row)(step, r);
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

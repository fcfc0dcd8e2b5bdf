// What the tests of recurrent cells share: a kernel against a step written down plainly in double precision,
// and its backward pass against finite differences of that.
#pragma once

#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#include "engine/math/recurrent_cell.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math::testing {

// Column j of one lane; gates and recurrent are [gates][n].
struct PlainStep {
  const double *gates, *recurrent;
  int64_t n, j;
  double h_before, c_before;

  double gate(int64_t g) const { return gates[g * n + j]; }
  double product(int64_t g) const { return recurrent[g * n + j]; }
  double sum(int64_t g) const { return gate(g) + product(g); }
};

// Returns h and, where the cell has one, c.
using PlainCell = std::function<std::pair<double, double>(const PlainStep&)>;

inline double logistic(double x) { return 1 / (1 + std::exp(-x)); }

// Random operands of a step, padded, and what it makes of them.
struct CellOperands {
  CellOperands(const RecurrentCell& of, int64_t lanes, int64_t n, float deviation = 1)
      : cell(of),
        gates(random, lanes, of.gates * n, 3, deviation),
        recurrent(random, lanes, of.gates * n, 1, deviation),
        h_before(random, lanes, n, 2),
        c_before(random, lanes, n, 4),
        dh(random, lanes, n, 1),
        dc(random, lanes, n, 5),
        h(lanes, n, 1),
        c(lanes, n, 2),
        dh_before(lanes, n, 3) {}

  void forward() {
    cell.forward({.gates = gates.view(),
                  .recurrent = recurrent.view(),
                  .h_before = h_before.view(),
                  .c_before = c_before.view(),
                  .h = h.view(),
                  .c = c.view()});
  }
  void backward() {
    cell.backward({.gates = gates.view(),
                   .recurrent = recurrent.view(),
                   .h_before = h_before.view(),
                   .h = h.view(),
                   .c_before = c_before.view(),
                   .c = c.view(),
                   .dh = dh.view(),
                   .dh_before = dh_before.view(),
                   .dc = dc.view()});
  }

  RecurrentCell cell;
  Random random;
  Grid gates, recurrent, h_before, c_before, dh, dc, h, c, dh_before;
};

// h of all lanes, then c.
inline std::pair<Doubles, Doubles> plain_step(const PlainCell& plain, int64_t lanes, int64_t n,
                                              const Doubles& gates, const Doubles& recurrent,
                                              const Doubles& h_before, const Doubles& c_before) {
  const size_t columns = gates.size() / size_t(lanes);
  Doubles h, c;
  for (int64_t r = 0; r < lanes; r++)
    for (int64_t j = 0; j < n; j++) {
      const auto at = size_t(r * n + j);
      const auto [next_h, next_c] = plain({.gates = gates.data() + size_t(r) * columns,
                                           .recurrent = recurrent.data() + size_t(r) * columns,
                                           .n = n,
                                           .j = j,
                                           .h_before = h_before[at],
                                           .c_before = c_before[at]});
      h.push_back(next_h);
      c.push_back(next_c);
    }
  return {h, c};
}

inline void expect_cell_agrees(const RecurrentCell& cell, const PlainCell& plain) {
  for (const auto& [lanes, n] : {std::pair{1, 1}, {3, 17}, {5, 16}, {20, 1031}}) {
    CellOperands step(cell, lanes, n);
    const auto [h, c] =
        plain_step(plain, lanes, n, widen(step.gates.values()), widen(step.recurrent.values()),
                   widen(step.h_before.values()), widen(step.c_before.values()));
    step.forward();
    EXPECT_LT(distance(step.h.values(), h), 5e-7) << lanes << " x " << n;
    if (cell.has_cell_state) {
      EXPECT_LT(distance(step.c.values(), c), 5e-7) << lanes << " x " << n;
    }
  }
}

inline void expect_cell_backward_agrees(const RecurrentCell& cell, const PlainCell& plain) {
  constexpr int64_t kCellLanes = 3, kCellColumns = 19;
  CellOperands step(cell, kCellLanes, kCellColumns);
  const Doubles gates = widen(step.gates.values()), recurrent = widen(step.recurrent.values());
  const Doubles h_before = widen(step.h_before.values()), c_before = widen(step.c_before.values());
  const Doubles dh = widen(step.dh.values()), dc = widen(step.dc.values());
  const auto loss = [&](const Doubles& g, const Doubles& r, const Doubles& hb, const Doubles& cb) {
    const auto [h, c] = plain_step(plain, kCellLanes, kCellColumns, g, r, hb, cb);
    return dot(h, dh) + (cell.has_cell_state ? dot(c, dc) : 0);
  };
  step.forward();
  step.backward();
  const Doubles of_recurrent =
      numeric_gradient(recurrent, [&](const Doubles& at) { return loss(gates, at, h_before, c_before); });
  const Doubles of_gates =
      numeric_gradient(gates, [&](const Doubles& at) { return loss(at, recurrent, h_before, c_before); });
  const Doubles of_h =
      numeric_gradient(h_before, [&](const Doubles& at) { return loss(gates, recurrent, at, c_before); });
  EXPECT_LT(distance(step.gates.values(), of_gates), 2e-6);
  if (cell.separate_recurrent) {
    EXPECT_LT(distance(step.recurrent.values(), of_recurrent), 2e-6);
    EXPECT_LT(distance(step.dh_before.values(), of_h), 2e-6);
  } else {
    EXPECT_LT(distance(step.gates.values(), of_recurrent), 2e-6);
    EXPECT_EQ(distance(of_h, Doubles(of_h.size())), 0) << "h has a way around the product";
  }
  if (cell.has_cell_state) {
    const Doubles of_c =
        numeric_gradient(c_before, [&](const Doubles& at) { return loss(gates, recurrent, h_before, at); });
    EXPECT_LT(distance(step.dc.values(), of_c), 2e-6);
  }
}

// Where all gates are saturated.
inline void expect_cell_is_finite_far_out(const RecurrentCell& cell, const PlainCell& plain) {
  CellOperands step(cell, 4, 33, 200);
  const auto [h, c] = plain_step(plain, 4, 33, widen(step.gates.values()), widen(step.recurrent.values()),
                                 widen(step.h_before.values()), widen(step.c_before.values()));
  step.forward();
  EXPECT_LT(distance(step.h.values(), h), 1e-6);
  step.backward();
  for (const Grid* grid : {&step.gates, &step.dc})
    for (const float value : grid->values()) EXPECT_TRUE(std::isfinite(value));
}

inline void expect_cell_has_the_same_bits_everywhere(const RecurrentCell& cell) {
  expect_same_bits_everywhere([&] {
    CellOperands step(cell, 37, 517);
    step.forward();
    std::vector<float> all = step.h.values();
    step.backward();
    for (const Grid* grid : {&step.gates, &step.recurrent, &step.dc, &step.dh_before, &step.c})
      for (const float value : grid->values()) all.push_back(value);
    return all;
  });
}

}  // namespace headrace::math::testing

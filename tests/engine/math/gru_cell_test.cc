#include "engine/math/gru_cell.h"

#include <gtest/gtest.h>

#include "tests/engine/math/recurrent_cell_testing.h"

namespace headrace::math {
namespace {

using testing::logistic;
using testing::PlainStep;

std::pair<double, double> plain(const PlainStep& s) {
  const double update = logistic(s.sum(1));
  const double fresh = std::tanh(s.gate(2) + logistic(s.sum(0)) * s.product(2));
  return {(1 - update) * fresh + update * s.h_before, 0.0};
}

TEST(GruCell, AgreesWithAPlainStep) { testing::expect_cell_agrees(gru_cell(), plain); }

TEST(GruCell, BackwardAgreesWithFiniteDifferences) {
  testing::expect_cell_backward_agrees(gru_cell(), plain);
}

TEST(GruCell, IsFiniteFarOut) { testing::expect_cell_is_finite_far_out(gru_cell(), plain); }

TEST(GruCell, HasTheSameBitsForAnyThreadsAndTarget) {
  testing::expect_cell_has_the_same_bits_everywhere(gru_cell());
}

}  // namespace
}  // namespace headrace::math

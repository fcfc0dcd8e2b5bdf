#include "engine/math/lstm_cell.h"

#include <gtest/gtest.h>

#include "tests/engine/math/recurrent_cell_testing.h"

namespace headrace::math {
namespace {

using testing::logistic;
using testing::PlainStep;

std::pair<double, double> plain(const PlainStep& s) {
  const double c = logistic(s.sum(1)) * s.c_before + logistic(s.sum(0)) * std::tanh(s.sum(2));
  return {logistic(s.sum(3)) * std::tanh(c), c};
}

TEST(LstmCell, AgreesWithAPlainStep) { testing::expect_cell_agrees(lstm_cell(), plain); }

TEST(LstmCell, BackwardAgreesWithFiniteDifferences) {
  testing::expect_cell_backward_agrees(lstm_cell(), plain);
}

TEST(LstmCell, IsFiniteFarOut) { testing::expect_cell_is_finite_far_out(lstm_cell(), plain); }

TEST(LstmCell, HasTheSameBitsForAnyThreadsAndTarget) {
  testing::expect_cell_has_the_same_bits_everywhere(lstm_cell());
}

}  // namespace
}  // namespace headrace::math

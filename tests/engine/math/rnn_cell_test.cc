#include "engine/math/rnn_cell.h"

#include <gtest/gtest.h>

#include "tests/engine/math/recurrent_cell_testing.h"

namespace headrace::math {
namespace {

using testing::PlainStep;

std::pair<double, double> plain(const PlainStep& s) { return {std::tanh(s.sum(0)), 0.0}; }

TEST(RnnCell, AgreesWithAPlainStep) { testing::expect_cell_agrees(rnn_cell(), plain); }

TEST(RnnCell, BackwardAgreesWithFiniteDifferences) {
  testing::expect_cell_backward_agrees(rnn_cell(), plain);
}

TEST(RnnCell, IsFiniteFarOut) { testing::expect_cell_is_finite_far_out(rnn_cell(), plain); }

TEST(RnnCell, HasTheSameBitsForAnyThreadsAndTarget) {
  testing::expect_cell_has_the_same_bits_everywhere(rnn_cell());
}

}  // namespace
}  // namespace headrace::math

#include "engine/math/rnn_relu_cell.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/engine/math/recurrent_cell_testing.h"

namespace headrace::math {
namespace {

using testing::PlainStep;

std::pair<double, double> plain(const PlainStep& s) { return {std::max(s.sum(0), 0.0), 0.0}; }

TEST(RnnReluCell, AgreesWithAPlainStep) { testing::expect_cell_agrees(rnn_relu_cell(), plain); }

TEST(RnnReluCell, BackwardAgreesWithFiniteDifferences) {
  testing::expect_cell_backward_agrees(rnn_relu_cell(), plain);
}

TEST(RnnReluCell, IsFiniteFarOut) { testing::expect_cell_is_finite_far_out(rnn_relu_cell(), plain); }

TEST(RnnReluCell, HasTheSameBitsForAnyThreadsAndTarget) {
  testing::expect_cell_has_the_same_bits_everywhere(rnn_relu_cell());
}

}  // namespace
}  // namespace headrace::math

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Grid;
using testing::Random;

struct Batch {
  Grid logits;
  std::vector<int32_t> targets;

  // Every third token has no target.
  Batch(Random& random, int64_t tokens, int64_t vocabulary, float deviation = 3)
      : logits(random, tokens, vocabulary, 3, deviation) {
    for (int64_t t = 0; t < tokens; t++) {
      targets.push_back(t % 3 == 2 ? -1 : static_cast<int32_t>(random.below(vocabulary)));
    }
  }
};

struct Result {
  double loss;
  std::vector<float> dlogits, states;

  std::vector<float> values() const {
    std::vector<float> all = dlogits;
    all.insert(all.end(), states.begin(), states.end());
    all.push_back(static_cast<float>(loss));
    return all;
  }
};

// The vocabulary in blocks of `rows`, a micro-batch of `tokens` a call.
Result run(const Batch& batch, float scale, int64_t rows, int64_t tokens) {
  Grid logits = batch.logits;
  std::vector<SoftmaxState> states(batch.targets.size());
  softmax_start(states);
  const Matrix all = logits.view();
  const auto each_block = [&](const auto& body) {
    for (int64_t t = 0; t < all.rows; t += tokens) {
      const int64_t count = std::min(tokens, all.rows - t);
      const auto cut = [&](auto span) {
        return span.subspan(static_cast<size_t>(t), static_cast<size_t>(count));
      };
      for (int64_t first = 0; first < all.columns; first += rows) {
        const Matrix block = all.row_range(t, count).column_range(first, std::min(rows, all.columns - first));
        body(block, first, cut(std::span<const int32_t>(batch.targets)), cut(std::span(states)));
      }
    }
  };
  each_block([](Matrix block, int64_t first, auto targets, auto part) {
    softmax_fold(block, first, targets, part);
  });
  Result result{cross_entropy_sum(states, batch.targets), {}, {}};
  each_block([&](Matrix block, int64_t first, auto targets, auto part) {
    cross_entropy_backward(block, first, targets, part, scale);
  });
  result.dlogits = logits.values();
  for (const SoftmaxState& state : states) {
    for (const float value : {state.largest, state.sum, state.target}) result.states.push_back(value);
  }
  return result;
}

double reference(const Doubles& logits, const std::vector<int32_t>& targets) {
  const size_t vocabulary = logits.size() / targets.size();
  double loss = 0;
  for (size_t t = 0; t < targets.size(); t++) {
    if (targets[t] < 0) continue;
    double sum = 0;
    for (size_t i = 0; i < vocabulary; i++) sum += std::exp(logits[t * vocabulary + i]);
    loss += std::log(sum) - logits[t * vocabulary + static_cast<size_t>(targets[t])];
  }
  return loss;
}

TEST(CrossEntropy, AgreesWithANaiveReference) {
  for (const auto& [tokens, vocabulary] :
       {std::pair<int64_t, int64_t>{1, 1}, {7, 17}, {5, 1000}, {4, 50257}}) {
    Random random;
    const Batch batch(random, tokens, vocabulary);
    const double expected = reference(testing::widen(batch.logits.values()), batch.targets);
    EXPECT_NEAR(run(batch, 1, vocabulary, tokens).loss, expected, 1e-6 * std::abs(expected) + 1e-7);
  }
}

TEST(CrossEntropy, BackwardAgreesWithFiniteDifferences) {
  Random random;
  const Batch batch(random, 5, 67);
  const Doubles expected =
      testing::numeric_gradient(testing::widen(batch.logits.values()),
                                [&](const Doubles& at) { return 0.25 * reference(at, batch.targets); });
  EXPECT_LT(testing::distance(run(batch, 0.25F, 67, 5).dlogits, expected), 1e-6);
}

TEST(CrossEntropy, TokensWithoutTargetCountNothing) {
  Random random;
  Batch batch(random, 6, 300);
  const Result before = run(batch, 1, 300, 6);
  for (int64_t i = 0; i < 300; i++) {
    EXPECT_EQ(before.dlogits[static_cast<size_t>(2 * 300 + i)], 0);
    batch.logits.at(2, i) = -batch.logits.at(2, i);
  }
  EXPECT_EQ(run(batch, 1, 300, 6).loss, before.loss);
}

TEST(CrossEntropy, HasTheSameBitsForAnyCutThreadsAndTarget) {
  Random random;
  const Batch batch(random, 50, 1500);
  const std::vector<float> whole = run(batch, 0.5F, 1500, 50).values();
  for (const int64_t rows : {256, 512, 1280}) {
    for (const int64_t tokens : {50, 7}) {
      testing::expect_same_bits(run(batch, 0.5F, rows, tokens).values(), whole,
                                std::to_string(rows) + " rows, " + std::to_string(tokens) + " tokens");
    }
  }
  testing::expect_same_bits_everywhere([&] { return run(batch, 0.5F, 512, 50).values(); });
}

TEST(CrossEntropy, SurvivesExtremeLogitsAndShowsNaN) {
  Random random;
  Batch batch(random, 2, 40, 1000);
  EXPECT_TRUE(std::isfinite(run(batch, 1, 40, 2).loss));
  batch.logits.at(0, 5) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(run(batch, 1, 40, 2).loss));
}

}  // namespace
}  // namespace headrace::math

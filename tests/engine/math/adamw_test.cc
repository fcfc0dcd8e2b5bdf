#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/math/kernels.h"
#include "engine/math/updates.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Random;

struct Parameters {
  std::vector<uint16_t> high, low;
  std::vector<float> moment1, moment2;

  explicit Parameters(const std::vector<float>& weight)
      : high(weight.size()), low(weight.size()), moment1(weight.size()), moment2(weight.size()) {
    split_planes(weight.data(), std::ssize(weight), high.data(), low.data());
  }
  std::vector<float> weight() const {
    std::vector<float> joined(high.size());
    join_planes(high.data(), low.data(), std::ssize(high), joined.data());
    return joined;
  }
  void update(const AdamWStep& step, const std::vector<float>& gradient, int64_t cut) {
    const auto n = std::ssize(gradient);
    for (int64_t i = 0; i < n; i += cut) {
      adamw(step, gradient.data() + i, std::min(cut, n - i), high.data() + i, low.data() + i,
            moment1.data() + i, moment2.data() + i);
    }
  }
};

AdamWStep nth_step(int step) {
  AdamWStep s{.lr = 3e-4, .weight_decay = 0.1, .terms = {.scale = 0.7F}};
  s.bias_correction1 = 1 - std::pow(s.beta1, step);
  s.bias_correction2 = 1 - std::pow(s.beta2, step);
  return s;
}

TEST(AdamW, FollowsTheFormulaOfTorch) {
  constexpr int64_t kCount = 1037;
  Random random;
  const std::vector<float> start = random.normals(kCount, 0.02F);
  Parameters actual(start);
  Doubles weight = testing::widen(start), m(start.size()), v(start.size());
  for (int number = 1; number <= 20; number++) {
    const AdamWStep s = nth_step(number);
    const std::vector<float> gradient = random.normals(kCount, 1e-3F);
    actual.update(s, gradient, kCount);
    for (size_t i = 0; i < weight.size(); i++) {
      const double g = static_cast<double>(gradient[i]) * static_cast<double>(s.terms.scale);
      weight[i] *= 1 - s.lr * s.weight_decay;
      m[i] = s.beta1 * m[i] + (1 - s.beta1) * g;
      v[i] = s.beta2 * v[i] + (1 - s.beta2) * g * g;
      weight[i] -=
          s.lr / s.bias_correction1 * m[i] / (std::sqrt(v[i]) / std::sqrt(s.bias_correction2) + s.epsilon);
    }
    EXPECT_LT(testing::distance(actual.weight(), weight), 1e-6);
    EXPECT_LT(testing::distance(actual.moment1, m), 1e-6);
    EXPECT_LT(testing::distance(actual.moment2, v), 1e-6);
  }
}

TEST(AdamW, LeavesAWeightWithoutGradientAndDecay) {
  Random random;
  const std::vector<float> start = random.normals(19);
  Parameters p(start);
  AdamWStep step = nth_step(1);
  step.weight_decay = 0;
  p.update(step, std::vector<float>(19), 19);
  testing::expect_same_bits(p.weight(), start, "weight");
}

TEST(AdamW, HasTheSameBitsForAnyCutThreadsAndTarget) {
  constexpr int64_t kCount = 40001;
  Random random;
  const std::vector<float> start = random.normals(kCount), gradient = random.normals(kCount);
  const auto run = [&](int64_t cut) {
    Parameters p(start);
    for (int number = 1; number <= 3; number++) p.update(nth_step(number), gradient, cut);
    std::vector<float> values = p.weight();
    values.insert(values.end(), p.moment1.begin(), p.moment1.end());
    values.insert(values.end(), p.moment2.begin(), p.moment2.end());
    return values;
  };
  for (const int64_t cut : {1, 7, 256, 1000}) {
    testing::expect_same_bits(run(cut), run(kCount), "cut every " + std::to_string(cut));
  }
  testing::expect_same_bits_everywhere([&] { return run(kCount); });
}

}  // namespace
}  // namespace headrace::math

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/math/kernels.h"
#include "engine/math/updates.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Random;

struct Parameters {
  std::vector<uint16_t> high, low;
  std::vector<int8_t> code1;
  std::vector<uint8_t> code2;
  std::vector<float> scale1, scale2;

  explicit Parameters(const std::vector<float>& weight)
      : high(weight.size()),
        low(weight.size()),
        code1(weight.size()),
        code2(weight.size()),
        scale1((weight.size() + kMomentGroup - 1) / kMomentGroup),
        scale2(scale1.size()) {
    split_planes(weight.data(), std::ssize(weight), high.data(), low.data());
  }
  std::vector<float> weight() const {
    std::vector<float> joined(high.size());
    join_planes(high.data(), low.data(), std::ssize(high), joined.data());
    return joined;
  }
  void update(const AdamWStep& step, uint64_t number, const std::vector<float>& gradient) {
    adamw8bit(
        step, number, gradient.data(), std::ssize(gradient), high.data(), low.data(),
        {.code1 = code1.data(), .code2 = code2.data(), .scale1 = scale1.data(), .scale2 = scale2.data()});
  }
  double moment1(size_t i) const {
    const double root = code1[i] / 127.0;
    return root * std::abs(root) * double(scale1[i / kMomentGroup]);
  }
  double moment2(size_t i) const { return std::pow(code2[i] / 255.0, 4) * double(scale2[i / kMomentGroup]); }
};

AdamWStep nth_step(uint64_t number) {
  AdamWStep s{.lr = 3e-3, .weight_decay = 0.1, .terms = {.scale = 0.7F, .l1 = 1e-4, .l2 = 1e-3}};
  s.bias_correction1 = 1 - std::pow(s.beta1, double(number));
  s.bias_correction2 = 1 - std::pow(s.beta2, double(number));
  return s;
}

// As updates.h says it, an element at a time.
struct Naive {
  std::vector<float> weight;
  std::vector<int> code1, code2;
  std::vector<float> scale1, scale2;

  explicit Naive(const std::vector<float>& start)
      : weight(start), code1(start.size()), code2(start.size()), scale1(start.size()), scale2(start.size()) {}

  void update(const AdamWStep& s, uint64_t number, const std::vector<float>& gradient) {
    for (size_t first = 0; first < weight.size(); first += kMomentGroup)
      update_group(s, number, gradient, first, std::min(first + kMomentGroup, weight.size()));
  }

  void update_group(const AdamWStep& s, uint64_t number, const std::vector<float>& gradient, size_t first,
                    size_t end) {
    const auto f = [](double x) { return static_cast<float>(x); };
    std::vector<float> m, v;
    float& s1 = scale1[first / kMomentGroup];
    float& s2 = scale2[first / kMomentGroup];
    for (size_t i = first; i < end; i++) {
      float& w = weight[i];
      const float sign = w > 0 ? 1.0F : w < 0 ? -1.0F : 0.0F;
      const float g =
          std::fma(f(s.terms.l1), sign, std::fma(f(2 * s.terms.l2), w, gradient[i] * s.terms.scale));
      const float root1 = float(code1[i]) * (1.0F / 127), root2 = float(code2[i]) * (1.0F / 255);
      const float square2 = root2 * root2;
      m.push_back(std::fma(f(s.beta1), root1 * std::abs(root1) * s1, f(1 - s.beta1) * g));
      v.push_back(std::fma(f(s.beta2), square2 * square2 * s2, f(1 - s.beta2) * g * g));
      const float denominator = std::sqrt(v.back()) / f(std::sqrt(s.bias_correction2)) + f(s.epsilon);
      w = std::fma(f(-s.lr / s.bias_correction1), m.back() / denominator, w * f(1 - s.lr * s.weight_decay));
    }
    s1 = s2 = 0;
    for (const float x : m) s1 = std::max(s1, std::abs(x));
    for (const float x : v) s2 = std::max(s2, x);
    for (size_t i = first; i < end; i++) {
      const float m_i = m[i - first], v_i = v[i - first];
      const uint64_t place = (number * 0x9e3779b9 + (i - first) * 0x6a09e667) % (uint64_t{1} << 32);
      const float dither2 = float(place / 65536) / 65536;
      const float dither1 = dither2 < 0.5F ? dither2 + 0.5F : dither2 - 0.5F;
      const float level1 = s1 > 0 ? std::fma(std::sqrt(std::abs(m_i) / s1), 127.0F, dither1) : 0;
      const float level2 = s2 > 0 ? std::fma(std::sqrt(std::sqrt(v_i / s2)), 255.0F, dither2) : 0;
      code1[i] = int(std::floor(level1)) * (m_i < 0 ? -1 : 1);
      code2[i] = v_i > 0 ? std::max(1, int(std::floor(level2))) : 0;
    }
  }
};

void expect_same(const Parameters& actual, const Naive& naive) {
  testing::expect_same_bits(actual.weight(), naive.weight, "weight");
  for (size_t i = 0; i < naive.weight.size(); i++) {
    ASSERT_EQ(actual.code1[i], naive.code1[i]) << i;
    ASSERT_EQ(actual.code2[i], naive.code2[i]) << i;
  }
  for (size_t group = 0; group < actual.scale1.size(); group++) {
    ASSERT_EQ(actual.scale1[group], naive.scale1[group]) << group;
    ASSERT_EQ(actual.scale2[group], naive.scale2[group]) << group;
  }
}

TEST(AdamW8bit, HasTheBitsOfANaiveReference) {
  for (const int64_t count : {1, 17, 255, 256, 257, 5 * 256 + 37}) {
    Random random;
    std::vector<float> sizes = random.normals(count, 3);  // gradients from 1e-6 to 1e2
    for (float& size : sizes) size = std::exp(size - 2);
    const std::vector<float> start = random.normals(count, 0.02F);
    Parameters actual(start);
    Naive naive(start);
    for (uint64_t number = 1; number <= 30; number++) {
      std::vector<float> gradient = random.normals(count);
      for (size_t i = 0; i < gradient.size(); i++) gradient[i] *= sizes[i];
      actual.update(nth_step(number), number, gradient);
      naive.update(nth_step(number), number, gradient);
      expect_same(actual, naive);
    }
  }
}

// The largest and the smallest floats, zeros, and a group of nothing else.
TEST(AdamW8bit, KeepsCodesInRangeAtTheEndsOfFloat) {
  std::vector<float> gradient(3 * 256);
  const std::vector<float> values{0.0F, -0.0F, 1e-45F, -1e-45F, 1e-30F, 1.0F, -1e15F, 1e19F, -1e19F};
  for (size_t i = 0; i < 256; i++) gradient[i] = values[i % values.size()];
  for (size_t i = 256; i < 512; i++) gradient[i] = i % 2 == 0 ? 1e-20F : -1e-20F;  // squares are subnormal
  const std::vector<float> start(gradient.size(), 0.5F);
  Parameters actual(start);
  Naive naive(start);
  AdamWStep step{.lr = 1e-3};
  for (uint64_t number = 1; number <= 200; number++) {
    actual.update(step, number, gradient);
    naive.update(step, number, gradient);
    expect_same(actual, naive);
  }
  for (size_t i = 0; i < gradient.size(); i++) {
    EXPECT_EQ(actual.code1[i] > 0, gradient[i] >= 1e15F || (i >= 256 && gradient[i] > 0)) << i;
    EXPECT_EQ(actual.code1[i] < 0, gradient[i] <= -1e15F || (i >= 256 && gradient[i] < 0)) << i;
    EXPECT_NE(actual.code1[i], -128) << i;
  }
  EXPECT_EQ(actual.scale1[2], 0);
  EXPECT_EQ(actual.scale2[2], 0);
}

// Gradients become a tenth of what they were for half of the elements; the others hold the scale where it is.
// A step takes a thousandth off a second moment, far less than the way to the next code.
TEST(AdamW8bit, LetsSecondMomentsComeDown) {
  Random random;
  Parameters p(std::vector<float>(256));
  std::vector<double> exact(256);
  for (uint64_t number = 1; number <= 4000; number++) {
    std::vector<float> gradient = random.normals(256);
    for (size_t i = 0; i < gradient.size(); i += 2) gradient[i] *= number > 1000 ? 0.1F : 1.0F;
    p.update({.lr = 0}, number, gradient);
    for (size_t i = 0; i < exact.size(); i++)
      exact[i] = 0.999 * exact[i] + 0.001 * double(gradient[i]) * double(gradient[i]);
  }
  double ratio = 0;
  for (size_t i = 0; i < exact.size(); i += 2) ratio += std::sqrt(p.moment2(i) / exact[i]) / 128;
  EXPECT_NEAR(ratio, 1, 0.1);  // rounding to nearest gives 5
}

// Without gradient a first moment goes to zero, and with it what the weight moves.
TEST(AdamW8bit, LetsFirstMomentsGoToZero) {
  Random random;
  Parameters p(std::vector<float>(256));
  p.update({.lr = 0}, 1, random.normals(256));
  for (uint64_t number = 2; number <= 200; number++) {
    std::vector<float> gradient(256);
    gradient[0] = 1;  // holds the scale
    p.update({.lr = 0}, number, gradient);
  }
  for (size_t i = 1; i < 256; i++) EXPECT_EQ(p.moment1(i), 0) << i;
}

}  // namespace
}  // namespace headrace::math

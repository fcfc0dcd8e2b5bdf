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

double reference(double x) {
  return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

const std::pair<int64_t, int64_t> kShapes[] = {{1, 1}, {3, 17}, {5, 16}, {70, 1031}};

TEST(Gelu, AgreesWithANaiveReference) {
  for (const auto& [rows, columns] : kShapes) {
    Random random;
    const Grid x(random, rows, columns, 3, 3);
    Grid y(rows, columns, 5);
    gelu(x.view(), y.view());
    Doubles expected;
    for (const float value : x.values()) expected.push_back(reference(static_cast<double>(value)));
    EXPECT_LT(testing::distance(y.values(), expected), 1e-6);
  }
}

TEST(Gelu, BackwardAgreesWithFiniteDifferences) {
  Random random;
  const Grid x(random, 7, 33, 1, 2);
  Grid dy(random, 7, 33, 2);
  const std::vector<float> at = x.values(), scale = dy.values();
  Doubles expected;
  for (size_t i = 0; i < at.size(); i++) {
    const double h = 1e-5, value = static_cast<double>(at[i]);
    expected.push_back(static_cast<double>(scale[i]) * (reference(value + h) - reference(value - h)) /
                       (2 * h));
  }
  gelu_backward(x.view(), dy.view(), dy.view());  // in place
  EXPECT_LT(testing::distance(dy.values(), expected), 1e-6);
}

TEST(Gelu, IsFiniteFarOutAndKeepsNaN) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Grid x(1, 5), y(1, 5), dy(1, 5), dx(1, 5);
  for (int64_t i = 0; i < 5; i++) {
    x.at(0, i) = std::vector<float>{-1000, 1000, -9, 0, nan}[static_cast<size_t>(i)];
    dy.at(0, i) = 1;
  }
  gelu(x.view(), y.view());
  gelu_backward(x.view(), dy.view(), dx.view());
  EXPECT_EQ(y.at(0, 0), 0);
  EXPECT_EQ(y.at(0, 1), 1000);
  EXPECT_NEAR(y.at(0, 2), 0, 1e-9);
  EXPECT_EQ(y.at(0, 3), 0);
  EXPECT_TRUE(std::isnan(y.at(0, 4)));
  EXPECT_EQ(dx.at(0, 0), 0);
  EXPECT_EQ(dx.at(0, 1), 1);
  EXPECT_TRUE(std::isnan(dx.at(0, 4)));
}

TEST(Gelu, HasTheSameBitsForAnyThreadsAndTarget) {
  Random random;
  const Grid x(random, 130, 517, 1, 3), dy(random, 130, 517);
  testing::expect_same_bits_everywhere([&] {
    Grid y(130, 517), dx(130, 517);
    gelu(x.view(), y.view());
    gelu_backward(x.view(), dy.view(), dx.view());
    std::vector<float> values = y.values();
    for (const float value : dx.values()) values.push_back(value);
    return values;
  });
}

TEST(Add, AddsElementwiseAlsoInPlace) {
  Random random;
  const Grid b(random, 5, 37, 3);
  Grid a(random, 5, 37, 1);
  std::vector<float> expected = a.values();
  for (size_t i = 0; i < expected.size(); i++) expected[i] += b.values()[i];
  add(a.view(), b.view(), a.view());
  testing::expect_same_bits(a.values(), expected, "a + b");
}

}  // namespace
}  // namespace headrace::math

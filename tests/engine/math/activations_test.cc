#include "engine/math/activations.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Grid;
using testing::Random;

struct Activation {
  std::string name;
  void (*forward)(ConstMatrix, Matrix);
  void (*backward)(ConstMatrix, ConstMatrix, Matrix);
  double (*reference)(double);
};

const Activation kActivations[] = {
    {"relu", relu, relu_backward, [](double x) { return x > 0 ? x : 0; }},
    {"tanh", tanh, tanh_backward, [](double x) { return std::tanh(x); }},
    {"sigmoid", sigmoid, sigmoid_backward, [](double x) { return 1 / (1 + std::exp(-x)); }},
};

class Activations : public ::testing::TestWithParam<Activation> {};

TEST_P(Activations, AgreeWithANaiveReference) {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {3, 17}, {5, 16}, {70, 1031}})
    for (const float deviation : {3.0F, 1e-3F}) {
      Random random;
      const Grid x(random, rows, columns, 3, deviation);
      Grid y(rows, columns, 5);
      GetParam().forward(x.view(), y.view());
      Doubles expected;
      for (const float value : x.values()) expected.push_back(GetParam().reference(double(value)));
      EXPECT_LT(testing::distance(y.values(), expected), 2e-7) << rows << " x " << columns;
    }
}

TEST_P(Activations, BackwardAgreesWithFiniteDifferences) {
  Random random;
  const Grid x(random, 7, 33, 1, 2);
  Grid dy(random, 7, 33, 2);
  const std::vector<float> at = x.values(), scale = dy.values();
  Doubles expected;
  for (size_t i = 0; i < at.size(); i++) {
    const double h = 1e-5, value = double(at[i]);
    expected.push_back(double(scale[i]) *
                       (GetParam().reference(value + h) - GetParam().reference(value - h)) / (2 * h));
  }
  GetParam().backward(x.view(), dy.view(), dy.view());  // in place
  EXPECT_LT(testing::distance(dy.values(), expected), 1e-6);
}

TEST_P(Activations, AreFiniteFarOutAndKeepNaN) {
  Grid x(1, 5), y(1, 5), dy(1, 5), dx(1, 5);
  for (int64_t i = 0; i < 5; i++) {
    x.at(0, i) = std::vector<float>{-1000, 1000, 0, -100, std::nanf("")}[size_t(i)];
    dy.at(0, i) = 1;
  }
  GetParam().forward(x.view(), y.view());
  GetParam().backward(x.view(), dy.view(), dx.view());
  for (int64_t i = 0; i < 4; i++) {
    EXPECT_NEAR(double(y.at(0, i)), GetParam().reference(double(x.at(0, i))), 1e-9) << i;
    EXPECT_TRUE(std::isfinite(dx.at(0, i))) << i;
  }
  EXPECT_TRUE(std::isnan(y.at(0, 4)));
}

TEST_P(Activations, HaveTheSameBitsForAnyThreadsAndTarget) {
  Random random;
  const Grid x(random, 130, 517, 1, 3), dy(random, 130, 517);
  testing::expect_same_bits_everywhere([&] {
    Grid y(130, 517), dx(130, 517);
    GetParam().forward(x.view(), y.view());
    GetParam().backward(x.view(), dy.view(), dx.view());
    std::vector<float> values = y.values();
    for (const float value : dx.values()) values.push_back(value);
    return values;
  });
}

INSTANTIATE_TEST_SUITE_P(Each, Activations, ::testing::ValuesIn(kActivations),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace headrace::math

#include "engine/math/dense_losses.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Grid;
using testing::Random;

struct LossCase {
  std::string name;
  double (*sum)(ConstMatrix, ConstMatrix);
  void (*backward)(ConstMatrix, ConstMatrix, float, Matrix);
  double (*reference)(double y, double target);
};

const LossCase kLosses[] = {
    {"SquaredError", squared_error_sum, squared_error_backward,
     [](double y, double t) { return (y - t) * (y - t); }},
    {"BinaryCrossEntropy", binary_cross_entropy_sum, binary_cross_entropy_backward,
     [](double y, double t) { return t * std::log1p(std::exp(-y)) + (1 - t) * std::log1p(std::exp(y)); }},
};

class DenseLosses : public ::testing::TestWithParam<LossCase> {};

TEST_P(DenseLosses, AgreeWithANaiveReferenceAndItsFiniteDifferences) {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {7, 17}, {3, 600}}) {
    Random random;
    const Grid y(random, rows, columns, 3, 4);
    Grid target(rows, columns, 1), dy(rows, columns, 2);
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = 0; c < columns; c++) target.at(r, c) = float(random.below(5)) / 4;
    double sum = 0;
    Doubles gradient;
    for (size_t i = 0; i < y.values().size(); i++) {
      const double at = double(y.values()[i]), wanted = double(target.values()[i]), h = 1e-5;
      sum += GetParam().reference(at, wanted);
      gradient.push_back(
          0.25 * (GetParam().reference(at + h, wanted) - GetParam().reference(at - h, wanted)) / (2 * h));
    }
    EXPECT_NEAR(GetParam().sum(y.view(), target.view()) / sum, 1, 1e-7);
    GetParam().backward(y.view(), target.view(), 0.25F, dy.view());
    EXPECT_LT(testing::distance(dy.values(), gradient), 1e-6);
  }
}

TEST_P(DenseLosses, AreFiniteFarOutAndKeepNaN) {
  Grid y(1, 1), target(1, 1);
  for (const float far : {-1e4F, 1e4F}) {
    y.at(0, 0) = far;
    EXPECT_TRUE(std::isfinite(GetParam().sum(y.view(), target.view())));
  }
  y.at(0, 0) = std::nanf("");
  EXPECT_TRUE(std::isnan(GetParam().sum(y.view(), target.view())));
}

TEST_P(DenseLosses, HaveTheSameBitsForAnyThreadsAndTarget) {
  Random random;
  const Grid y(random, 90, 517, 1, 3), target(random, 90, 517);
  testing::expect_same_bits_everywhere([&] {
    Grid dy(90, 517);
    GetParam().backward(y.view(), target.view(), 0.3F, dy.view());
    std::vector<float> values = dy.values();
    values.push_back(float(GetParam().sum(y.view(), target.view())));
    return values;
  });
}

INSTANTIATE_TEST_SUITE_P(Each, DenseLosses, ::testing::ValuesIn(kLosses),
                         [](const auto& each) { return each.param.name; });

}  // namespace
}  // namespace headrace::math

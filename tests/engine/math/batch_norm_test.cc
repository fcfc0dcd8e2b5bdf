#include "engine/math/batch_norm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Grid;
using testing::Random;

constexpr double kEpsilon = 1e-5;

// The norm of x as a whole, through sums of parts of `part` rows.
struct Norm {
  Norm(const Grid& x, int64_t part) : sums(size_t(2 * x.view().columns)) {
    const ConstMatrix all = x.view();
    for (int64_t r = 0; r < all.rows; r += part)
      add_column_moments(all.row_range(r, std::min(part, all.rows - r)), sums.data());
    for (int64_t c = 0; c < all.columns; c++) {
      const double m = sums[size_t(c)] / double(all.rows);
      mean.push_back(float(m));
      deviation.push_back(
          float(1 / std::sqrt(sums[size_t(all.columns + c)] / double(all.rows) - m * m + kEpsilon)));
    }
  }
  ColumnMoments moments() const { return {mean.data(), deviation.data()}; }

  std::vector<double> sums;
  std::vector<float> mean, deviation;
};

Doubles reference(const Doubles& x, const Doubles& weight, const Doubles& bias) {
  const size_t n = weight.size(), rows = x.size() / n;
  Doubles y(x.size());
  for (size_t c = 0; c < n; c++) {
    double mean = 0, variance = 0;
    for (size_t r = 0; r < rows; r++) mean += x[r * n + c] / double(rows);
    for (size_t r = 0; r < rows; r++) variance += std::pow(x[r * n + c] - mean, 2) / double(rows);
    for (size_t r = 0; r < rows; r++)
      y[r * n + c] = (x[r * n + c] - mean) / std::sqrt(variance + kEpsilon) * weight[c] + bias[c];
  }
  return y;
}

Doubles doubles(const std::vector<float>& values) { return {values.begin(), values.end()}; }

TEST(BatchNorm, AgreesWithANaiveReference) {
  for (const auto& [rows, columns] : {std::pair{2, 1}, {33, 17}, {300, 130}}) {
    Random random;
    const Grid x(random, rows, columns, 3, 2, 5);
    const std::vector<float> weight = random.normals(columns), bias = random.normals(columns);
    Grid y(rows, columns, 1);
    batch_norm(x.view(), Norm(x, 7).moments(), weight.data(), bias.data(), y.view());
    EXPECT_LT(testing::distance(y.values(), reference(doubles(x.values()), doubles(weight), doubles(bias))),
              1e-6)
        << rows << " x " << columns;
  }
}

TEST(BatchNorm, BackwardAgreesWithFiniteDifferences) {
  constexpr int64_t kRows = 9, kColumns = 5;
  Random random;
  const Grid x(random, kRows, kColumns, 1), dy(random, kRows, kColumns, 2);
  const std::vector<float> weight = random.normals(kColumns), bias = random.normals(kColumns);
  const Norm norm(x, 4);
  std::vector<double> sums(2 * kColumns);
  add_batch_norm_gradients(x.view(), norm.moments(), dy.view(), sums.data());
  Grid dx(kRows, kColumns);
  batch_norm_backward(x.view(), norm.moments(), weight.data(), sums.data(), kRows, dy.view(), dx.view());

  const Doubles slope = doubles(dy.values());
  const auto value = [&](const Doubles& at, const Doubles& w, const Doubles& b) {
    const Doubles y = reference(at, w, b);
    double sum = 0;
    for (size_t i = 0; i < y.size(); i++) sum += slope[i] * y[i];
    return sum;
  };
  const auto differences = [&](Doubles of, const auto& value_at) {
    Doubles result;
    for (size_t i = 0; i < of.size(); i++) {
      constexpr double kStep = 1e-5;
      const double before = of[i];
      of[i] = before + kStep;
      const double above = value_at(of);
      of[i] = before - kStep;
      result.push_back((above - value_at(of)) / (2 * kStep));
      of[i] = before;
    }
    return result;
  };
  const Doubles at = doubles(x.values()), w = doubles(weight), b = doubles(bias);
  EXPECT_LT(testing::distance(dx.values(), differences(at, [&](const Doubles& v) { return value(v, w, b); })),
            1e-5);
  const std::vector<float> of_bias(sums.begin(), sums.begin() + kColumns),
      of_weight(sums.begin() + kColumns, sums.end());
  EXPECT_LT(testing::distance(of_weight, differences(w, [&](const Doubles& v) { return value(at, v, b); })),
            1e-5);
  EXPECT_LT(testing::distance(of_bias, differences(b, [&](const Doubles& v) { return value(at, w, v); })),
            1e-5);
}

TEST(BatchNorm, HasTheSameBitsForAnyPartsAndThreads) {
  Random random;
  const Grid x(random, 130, 517, 1, 3, 1), dy(random, 130, 517);
  const std::vector<float> weight = random.normals(517);
  const auto all = [&](int64_t part) {
    const Norm norm(x, part);
    std::vector<double> sums(2 * 517);
    for (int64_t r = 0; r < 130; r += part) {
      const int64_t rows = std::min<int64_t>(part, 130 - r);
      add_batch_norm_gradients(x.view().row_range(r, rows), norm.moments(), dy.view().row_range(r, rows),
                               sums.data());
    }
    Grid dx(130, 517);
    batch_norm_backward(x.view(), norm.moments(), weight.data(), sums.data(), 130, dy.view(), dx.view());
    return dx.values();
  };
  for (const int64_t part : {1, 64, 100}) testing::expect_same_bits(all(part), all(130), "in parts");
  testing::expect_same_bits_everywhere([&] { return all(50); });
}

}  // namespace
}  // namespace headrace::math

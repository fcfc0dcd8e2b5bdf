// What the kernels' tests share: operands, comparisons in the 2-norm, numeric gradients, and running a
// computation on every vector target and number of threads.
#pragma once

#include <gtest/gtest.h>
#include <oneapi/tbb/task_arena.h>

#include <hwy/targets.h>
#include <bit>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/math/views.h"
#include "tests/engine/math/workspace.h"

namespace headrace::math::testing {

inline constexpr uint32_t kSeed = 20240611;

// Random values and places; a test that fails prints the seed.
class Random {
 public:
  explicit Random(uint32_t seed = kSeed)
      : generator_(seed), trace_(__FILE__, __LINE__, "seed " + std::to_string(seed)) {}

  float normal() { return std::normal_distribution<float>()(generator_); }
  int64_t below(int64_t bound) { return std::uniform_int_distribution<int64_t>(0, bound - 1)(generator_); }
  uint32_t bits() { return static_cast<uint32_t>(generator_()); }
  std::vector<float> normals(int64_t count, float deviation = 1, float mean = 0) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = mean + deviation * normal();
    return values;
  }

 private:
  std::mt19937 generator_;
  ::testing::ScopedTrace trace_;
};

// A matrix with `padding` floats between its rows, which must stay as they are.
class Grid {
 public:
  Grid(int64_t rows, int64_t columns, int64_t padding = 0)
      : rows_(rows),
        columns_(columns),
        stride_(columns + padding),
        values_(static_cast<size_t>(rows * stride_), kPadding) {}
  Grid(Random& random, int64_t rows, int64_t columns, int64_t padding = 0, float deviation = 1,
       float mean = 0)
      : Grid(rows, columns, padding) {
    for (int64_t r = 0; r < rows; r++) {
      for (int64_t c = 0; c < columns; c++) at(r, c) = mean + deviation * random.normal();
    }
  }

  float& at(int64_t r, int64_t c) { return values_[static_cast<size_t>(r * stride_ + c)]; }
  float at(int64_t r, int64_t c) const { return values_[static_cast<size_t>(r * stride_ + c)]; }
  Matrix view() { return {values_.data(), rows_, columns_, stride_}; }
  ConstMatrix view() const { return {values_.data(), rows_, columns_, stride_}; }

  // The values without the padding, which is checked.
  std::vector<float> values() const {
    std::vector<float> result;
    for (int64_t r = 0; r < rows_; r++) {
      for (int64_t c = 0; c < columns_; c++) result.push_back(at(r, c));
      for (int64_t c = columns_; c < stride_; c++) EXPECT_EQ(at(r, c), kPadding) << "padding of row " << r;
    }
    return result;
  }

 private:
  static constexpr float kPadding = -7777;
  int64_t rows_, columns_, stride_;
  std::vector<float> values_;
};

using Doubles = std::vector<double>;

template <class T>
Doubles widen(const std::vector<T>& values) {
  return Doubles(values.begin(), values.end());
}

// |actual - expected| / |expected| in the 2-norm.
template <class A, class B>
double distance(const std::vector<A>& actual, const std::vector<B>& expected) {
  EXPECT_EQ(actual.size(), expected.size());
  double difference = 0, norm = 0;
  for (size_t i = 0; i < actual.size(); i++) {
    const auto a = static_cast<double>(actual[i]), b = static_cast<double>(expected[i]);
    difference += (a - b) * (a - b);
    norm += b * b;
  }
  return norm == 0 ? std::sqrt(difference) : std::sqrt(difference / norm);
}

// Central differences of `loss` at each coordinate of `at`.
template <class Loss>
Doubles numeric_gradient(Doubles at, const Loss& loss) {
  constexpr double kStep = 1e-5;
  Doubles gradient;
  for (double& coordinate : at) {
    const double before = coordinate;
    coordinate = before + kStep;
    const double above = loss(at);
    coordinate = before - kStep;
    gradient.push_back((above - loss(at)) / (2 * kStep));
    coordinate = before;
  }
  return gradient;
}

inline double dot(const Doubles& a, const Doubles& b) {
  double total = 0;
  for (size_t i = 0; i < a.size(); i++) total += a[i] * b[i];
  return total;
}

inline void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected,
                             const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t i = 0; i < actual.size(); i++) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
        << what << ": element " << i << " is " << actual[i] << " and should be " << expected[i];
  }
}

// Expects the same bits of compute(), which returns floats, on each vector target of this machine and with
// one, two and three threads.
template <class Compute>
void expect_same_bits_everywhere(const Compute& compute) {
  const std::vector<float> expected = compute();
  for (const int threads : {1, 2, 3}) {
    oneapi::tbb::task_arena arena(threads);
    const std::vector<float> actual = arena.execute(compute);
    expect_same_bits(actual, expected, std::to_string(threads) + " threads");
  }
  const int64_t supported = hwy::SupportedTargets() | HWY_SCALAR;
  for (const int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SCALAR}) {
    if ((supported & target) == 0) continue;
    hwy::SetSupportedTargetsForTest(target);
    const std::vector<float> actual = compute();
    hwy::SetSupportedTargetsForTest(0);
    expect_same_bits(actual, expected, hwy::TargetName(target));
  }
}

}  // namespace headrace::math::testing

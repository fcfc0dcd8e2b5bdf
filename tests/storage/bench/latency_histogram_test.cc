#include "storage/bench/latency_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace headrace::bench {
namespace {

uint64_t exact_percentile(const std::vector<uint64_t>& sorted, double percent) {
  const auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(sorted.size())));
  return sorted[std::max<size_t>(rank, 1) - 1];
}

// Values over many powers of two, as latencies are.
std::vector<uint64_t> random_values(size_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> values;
  for (size_t i = 0; i < count; ++i) values.push_back(random() >> random() % 64);
  return values;
}

TEST(LatencyHistogram, PercentilesAreWithinTheRelativeErrorOfTheExactOnes) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    std::vector<uint64_t> values = random_values(1 + 997 * seed, seed);
    LatencyHistogram histogram;
    for (const uint64_t value : values) histogram.add(value);
    std::sort(values.begin(), values.end());
    for (const double percent : {0.0, 0.1, 1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
      const auto exact = static_cast<double>(exact_percentile(values, percent));
      const auto found = static_cast<double>(histogram.percentile_ns(percent));
      EXPECT_GE(found, exact) << percent;
      EXPECT_LE(found, exact * (1 + LatencyHistogram::kRelativeError)) << percent;
    }
    EXPECT_EQ(histogram.min_ns(), values.front());
    EXPECT_EQ(histogram.max_ns(), values.back());
    EXPECT_EQ(histogram.percentile_ns(100), values.back());
    EXPECT_EQ(histogram.count(), values.size());
  }
}

TEST(LatencyHistogram, KeepsSmallAndExtremeValuesExactly) {
  for (const uint64_t value : {uint64_t{0}, uint64_t{1}, uint64_t{511}, uint64_t{512}, ~uint64_t{0}}) {
    LatencyHistogram histogram;
    histogram.add(value);
    EXPECT_EQ(histogram.percentile_ns(50), value);
    EXPECT_EQ(histogram.min_ns(), value);
    EXPECT_EQ(histogram.max_ns(), value);
  }
  EXPECT_EQ(LatencyHistogram().percentile_ns(99), 0u);
  EXPECT_EQ(LatencyHistogram().min_ns(), 0u);
}

TEST(LatencyHistogram, MergesToTheHistogramOfAllValues) {
  LatencyHistogram first, second, all;
  for (const uint64_t value : random_values(5000, 3)) {
    (value % 3 == 0 ? first : second).add(value);
    all.add(value);
  }
  first.merge(second);
  EXPECT_EQ(first.count(), all.count());
  EXPECT_EQ(first.min_ns(), all.min_ns());
  EXPECT_EQ(first.max_ns(), all.max_ns());
  for (const double percent : {1.0, 50.0, 99.9}) {
    EXPECT_EQ(first.percentile_ns(percent), all.percentile_ns(percent));
  }
  EXPECT_NEAR(first.mean_ns() / all.mean_ns(), 1, 1e-12);
}

TEST(LatencyHistogram, MeanIsExactAndDeviationNearIt) {
  LatencyHistogram histogram;
  double sum = 0, squares = 0;
  std::mt19937_64 random(7);
  constexpr int kValues = 10000;
  for (int i = 0; i < kValues; ++i) {
    const uint64_t value = 100000 + random() % 900000;
    histogram.add(value);
    sum += double(value);
    squares += double(value) * double(value);
  }
  const double mean = sum / kValues;
  EXPECT_DOUBLE_EQ(histogram.mean_ns(), mean);
  EXPECT_NEAR(histogram.stddev_ns() / std::sqrt(squares / kValues - mean * mean), 1, 0.01);
}

}  // namespace
}  // namespace headrace::bench

#include "engine/math/magnitude.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Random;

struct Planes {
  std::vector<uint16_t> high, low;

  explicit Planes(const std::vector<float>& weights) : high(weights.size()), low(weights.size()) {
    split_planes(weights.data(), std::ssize(weights), high.data(), low.data());
  }
  WeightView view(size_t first, size_t count, bool with_low = true) const {
    return {high.data() + first, with_low ? low.data() + first : nullptr, 1, int64_t(count)};
  }
  std::vector<float> values() const {
    std::vector<float> values(high.size());
    join_planes(high.data(), low.data(), std::ssize(high), values.data());
    return values;
  }
};

bool is_pruned(float weight) { return weight == 0 && std::signbit(weight); }

// Pruned ones, then by magnitude, then by index; what is no number last.
std::vector<float> prune_naively(std::vector<float> weights, size_t k) {
  std::vector<size_t> order(weights.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto size = [&](size_t i) {
    if (std::isnan(weights[i])) return std::numeric_limits<double>::infinity();
    return is_pruned(weights[i]) ? -1.0 : std::min(double(std::abs(weights[i])), 1e300);
  };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return size(a) < size(b); });
  for (size_t i = 0; i < k; i++) weights[order[i]] = -0.0F;
  return weights;
}

// As the parts of a tensor are counted: each for itself, in whatever order.
struct Choice {
  uint32_t key = 0;
  uint64_t ties = 0;
};
Choice choose(const Planes& planes, const std::vector<size_t>& ends, size_t k) {
  const auto total = [&](const auto& count) {
    std::vector<uint64_t> sum(kMagnitudeBins);
    for (size_t p = ends.size(); p-- > 1;) {
      std::vector<uint32_t> counts(kMagnitudeBins);
      count(planes.view(ends[p - 1], ends[p] - ends[p - 1]), counts);
      for (size_t bin = 0; bin < sum.size(); bin++) sum[bin] += counts[bin];
    }
    return sum;
  };
  const MagnitudeBin upper =
      find_bin(total([](WeightView w, std::span<uint32_t> counts) { count_upper_keys(w, counts); }), k);
  const MagnitudeBin lower = find_bin(
      total([&](WeightView w, std::span<uint32_t> counts) { count_lower_keys(w, upper.bin, counts); }),
      k - upper.before);
  return {upper.bin << 16 | lower.bin, k - upper.before - lower.before};
}

std::vector<float> prune(const std::vector<float>& weights, const std::vector<size_t>& ends, size_t k) {
  Planes planes(weights);
  Choice choice = choose(planes, ends, k);
  for (size_t p = 1; p < ends.size(); p++) {
    const size_t first = ends[p - 1], count = ends[p] - first;
    const uint64_t ties = std::min(choice.ties, count_key(planes.view(first, count), choice.key));
    prune_smallest(choice.key, ties, int64_t(count), planes.high.data() + first, planes.low.data() + first);
    choice.ties -= ties;
  }
  return planes.values();
}

std::vector<std::vector<float>> samples() {
  Random random;
  std::vector<std::vector<float>> all{random.normals(1000, 0.02F), {}, {}, std::vector<float>(777, 0.5F)};
  for (int i = 0; i < 3000; i++) all[1].push_back(float(random.below(7) - 3) / 8);  // ties and zeros
  for (int i = 0; i < 3000; i++) {
    const auto value = std::bit_cast<float>(random.bits());
    all[2].push_back(std::isnan(value) ? 1.0F : value);  // NaNs of one kind alone are equal to each other
  }
  for (size_t i = 0; i < all[1].size(); i += 5) all[1][i] = -0.0F;
  for (size_t i = 0; i < all[2].size(); i += 9) all[2][i] = i % 2 ? INFINITY : NAN;
  return all;
}

TEST(Magnitude, ExactlyTheSmallestArePrunedAsSortingFindsThem) {
  for (const std::vector<float>& weights : samples()) {
    const size_t n = weights.size();
    const auto pruned_before = size_t(std::count_if(weights.begin(), weights.end(), is_pruned));
    for (const double share : {0.0, 0.001, 0.1, 0.3, 0.5, 0.77, 0.9, 0.999, 1.0}) {
      const auto k = size_t(share * double(n));
      const std::vector<float> expected = prune_naively(weights, k);
      const std::vector<std::vector<size_t>> cuts{{0, n}, {0, 1, 256, 257, 700, n}, {0, 300, 300, n}};
      for (const std::vector<size_t>& ends : cuts) {
        const std::vector<float> actual = prune(weights, ends, k);
        testing::expect_same_bits(actual, expected, std::to_string(k) + " of " + std::to_string(n));
        EXPECT_EQ(size_t(std::count_if(actual.begin(), actual.end(), is_pruned)), std::max(k, pruned_before));
      }
    }
  }
}

TEST(Magnitude, KeysAreOrderedAsMagnitudesAre) {
  const std::vector<float> ordered{-0.0F, 0.0F, 1e-45F, -1e-40F, 1e-3F, -1, 1.5F, -3e38F, INFINITY, NAN};
  for (size_t i = 1; i < ordered.size(); i++)
    EXPECT_LT(magnitude_key(std::bit_cast<uint32_t>(ordered[i - 1])),
              magnitude_key(std::bit_cast<uint32_t>(ordered[i])))
        << ordered[i];
  EXPECT_EQ(magnitude_key(std::bit_cast<uint32_t>(1.5F)), magnitude_key(std::bit_cast<uint32_t>(-1.5F)));
}

TEST(Magnitude, MasksTheGradientWhereTheProductsSeeAPrunedWeight) {
  Random random;
  for (const int64_t n : {1, 15, 16, 17, 70001}) {
    std::vector<float> weights = random.normals(n);
    for (float& weight : weights)
      if (random.below(3) == 0) weight = random.below(2) == 0 ? -0.0F : random.below(2) == 0 ? 0.0F : -1e-44F;
    const Planes planes(weights);
    const std::vector<float> gradient = random.normals(n);
    for (const bool with_low : {true, false}) {
      testing::expect_same_bits_everywhere([&] {
        std::vector<float> masked = gradient;
        mask_gradient(planes.view(0, size_t(n), with_low), masked.data());
        for (size_t i = 0; i < weights.size(); i++) {
          const bool pruned = is_pruned(weights[i]) || (!with_low && weights[i] == -1e-44F);
          EXPECT_EQ(masked[i], pruned ? 0 : gradient[i]) << i;
        }
        return masked;
      });
    }
  }
}

}  // namespace
}  // namespace headrace::math

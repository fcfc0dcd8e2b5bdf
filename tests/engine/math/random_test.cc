#include "engine/math/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/math/exact.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Random;

// From the known-answer tests of Random123 (kat_vectors, philox4x32 10).
TEST(Philox, GivesThePublishedVectors) {
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}),
            (PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RandomBits, DependOnSeedStreamAndIndex) {
  const uint32_t bits = random_bits(1, 2, 3);
  EXPECT_EQ(bits, random_bits(1, 2, 3));
  EXPECT_NE(bits, random_bits(2, 2, 3));
  EXPECT_NE(bits, random_bits(1, 3, 3));
  EXPECT_NE(bits, random_bits(1, 2, 4));
  EXPECT_NE(bits, random_bits(uint64_t{1} << 32 | 1, 2, 3));
  EXPECT_NE(bits, random_bits(1, uint64_t{1} << 32 | 2, 3));
  EXPECT_NE(bits, random_bits(1, 2, uint64_t{1} << 34 | 3));
}

TEST(FillNormal, ValuesDoNotDependOnHowTheRangeIsCut) {
  constexpr int64_t kCount = 40003;
  std::vector<float> whole(kCount);
  fill_normal(7, 11, 5, kCount, 0.5F, 0.02F, whole.data());
  for (const int64_t cut : {1, 3, 4, 1000}) {
    std::vector<float> parts(kCount);
    for (int64_t i = 0; i < kCount; i += cut) {
      fill_normal(7, 11, static_cast<uint64_t>(5 + i), std::min(cut, kCount - i), 0.5F, 0.02F,
                  parts.data() + i);
    }
    testing::expect_same_bits(parts, whole, "cut every " + std::to_string(cut));
  }
}

TEST(FillNormal, HasTheSameBitsForAnyThreadsAndTarget) {
  testing::expect_same_bits_everywhere([] {
    std::vector<float> values(50001);
    fill_normal(3, 1, 2, std::ssize(values), 0, 1, values.data());
    return values;
  });
}

// Box and Muller's formula, written down plainly.
TEST(FillNormal, HasTheBitsOfItsFormula) {
  constexpr uint64_t kSeed = 0x123456789abcdef0, kStream = 0xfedcba9876543210,
                     kFirst = (uint64_t{1} << 34) - 99;
  std::vector<float> values(20001);
  fill_normal(kSeed, kStream, kFirst, std::ssize(values), 0.25F, 0.02F, values.data());
  for (size_t i = 0; i < values.size(); i++) {
    const uint64_t index = kFirst + i, pair = index / 2 * 2;
    const double uniform = (static_cast<double>(random_bits(kSeed, kStream, pair)) + 1) / 4294967296.0;
    const double radius = std::sqrt(-2 * log_by_series(uniform, kShortLogSeries));
    const SineCosine angle = sine_cosine_of_turns(random_bits(kSeed, kStream, pair + 1));
    const double normal = radius * (index % 2 == 0 ? angle.cosine : angle.sine);
    const auto expected =
        static_cast<float>(static_cast<double>(0.25F) + static_cast<double>(0.02F) * normal);
    ASSERT_EQ(values[i], expected) << i;
  }
}

TEST(FillNormal, HasTheMomentsOfANormal) {
  constexpr int64_t kCount = 1 << 20;
  std::vector<float> values(kCount);
  fill_normal(testing::kSeed, 0, 0, kCount, 1, 2, values.data());
  double moments[5] = {};
  for (const float value : values) {
    const double z = (static_cast<double>(value) - 1) / 2;
    for (int power = 1; power <= 4; power++) moments[power] += std::pow(z, power) / kCount;
  }
  EXPECT_NEAR(moments[1], 0, 0.005);
  EXPECT_NEAR(moments[2], 1, 0.007);
  EXPECT_NEAR(moments[3], 0, 0.02);
  EXPECT_NEAR(moments[4], 3, 0.05);
}

TEST(FillUniform, ValuesDoNotDependOnHowTheRangeIsCut) {
  constexpr int64_t kCount = 20003;
  std::vector<float> whole(kCount);
  fill_uniform(7, 11, 5, kCount, 0.25F, whole.data());
  for (const int64_t cut : {1, 3, 4, 1000}) {
    std::vector<float> parts(kCount);
    for (int64_t i = 0; i < kCount; i += cut)
      fill_uniform(7, 11, static_cast<uint64_t>(5 + i), std::min(cut, kCount - i), 0.25F, parts.data() + i);
    testing::expect_same_bits(parts, whole, "cut every " + std::to_string(cut));
  }
}

TEST(FillUniform, HasTheSameBitsForAnyThreadsAndTarget) {
  testing::expect_same_bits_everywhere([] {
    std::vector<float> values(50001);
    fill_uniform(3, 1, 2, std::ssize(values), 0.125F, values.data());
    return values;
  });
}

TEST(FillUniform, IsEvenOverItsRange) {
  constexpr int64_t kCount = 1 << 20;
  std::vector<float> values(kCount);
  fill_uniform(testing::kSeed, 0, (uint64_t{1} << 34) - 9, kCount, 0.5F, values.data());
  std::vector<int64_t> parts(16);
  double mean = 0, square = 0;
  for (const float value : values) {
    ASSERT_GE(value, -0.5F);
    ASSERT_LT(value, 0.5F);
    parts[static_cast<size_t>((value + 0.5F) * 16)]++;
    mean += static_cast<double>(value) / kCount;
    square += static_cast<double>(value) * static_cast<double>(value) / kCount;
  }
  for (const int64_t part : parts) EXPECT_NEAR(static_cast<double>(part), kCount / 16.0, 5 * 256.0);
  EXPECT_NEAR(mean, 0, 0.002);
  EXPECT_NEAR(square, 1.0 / 12, 0.001);
  std::vector<float> other(kCount);
  fill_uniform(testing::kSeed + 1, 0, (uint64_t{1} << 34) - 9, kCount, 0.5F, other.data());
  EXPECT_NE(values, other);
}

TEST(Permuted, IsABijectionForAnySize) {
  for (uint64_t n = 1; n <= 300; n++) {
    std::vector<bool> taken(n);
    for (uint64_t i = 0; i < n; i++) {
      const uint64_t to = permuted(3, 1, n, i);
      ASSERT_LT(to, n);
      ASSERT_FALSE(taken[to]) << n;
      taken[to] = true;
    }
  }
  constexpr uint64_t kMany = 100003;
  std::vector<bool> taken(kMany);
  for (uint64_t i = 0; i < kMany; i++) taken[permuted(9, 4, kMany, i)] = true;
  EXPECT_EQ(std::count(taken.begin(), taken.end(), true), kMany);
  EXPECT_LT(permuted(1, 1, ~uint64_t{0}, 12345), ~uint64_t{0});
}

TEST(Permuted, DiffersBetweenSeedsAndEpochsAndMixes) {
  constexpr uint64_t kCount = 10000;
  int same_epoch = 0, same_seed = 0, in_order = 0;
  for (uint64_t i = 0; i + 1 < kCount; i++) {
    const uint64_t to = permuted(1, 1, kCount, i);
    same_epoch += to == permuted(1, 2, kCount, i);
    same_seed += to == permuted(2, 1, kCount, i);
    in_order += to + 1 == permuted(1, 1, kCount, i + 1);
  }
  EXPECT_LT(same_epoch, 10);
  EXPECT_LT(same_seed, 10);
  EXPECT_LT(in_order, 10);
}

TEST(ExactFunctions, AgreeWithTheCLibrary) {
  Random random;
  for (int i = 0; i < 100000; i++) {
    const double x = std::exp(10 * static_cast<double>(random.normal()));
    EXPECT_NEAR(exact_log(x), std::log(x), 1e-15 * std::max(1.0, std::abs(std::log(x))));
    EXPECT_NEAR(log_by_series(x, kShortLogSeries), std::log(x), 6e-11 * std::abs(std::log(x)));
    const uint32_t turns = random.bits();
    const double angle = static_cast<double>(turns) * (2 * M_PI / 4294967296.0);
    EXPECT_NEAR(sine_cosine_of_turns(turns).sine, std::sin(angle), 2e-10);
    EXPECT_NEAR(sine_cosine_of_turns(turns).cosine, std::cos(angle), 2e-10);
  }
  EXPECT_EQ(exact_log(1), 0);
  EXPECT_TRUE(std::isnan(exact_log(std::nan(""))));
}

}  // namespace
}  // namespace headrace::math

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Random;

struct Planes {
  std::vector<uint16_t> high, low;

  explicit Planes(const std::vector<float>& weight) : high(weight.size()), low(weight.size()) {
    split_planes(weight.data(), std::ssize(weight), high.data(), low.data());
  }
  std::vector<float> join(bool with_low = true) const {
    std::vector<float> weight(high.size());
    join_planes(high.data(), with_low ? low.data() : nullptr, std::ssize(high), weight.data());
    return weight;
  }
};

TEST(Planes, JoinToTheSameBitsForEveryHighPattern) {
  Random random;
  for (const uint32_t low : {0U, 1U, 0x7fffU, 0x8000U, 0x8001U, 0xffffU, random.bits() & 0xffff}) {
    std::vector<float> weight;
    for (uint32_t high = 0; high < 65536; high++) weight.push_back(std::bit_cast<float>(high << 16 | low));
    testing::expect_same_bits(Planes(weight).join(), weight, "low half " + std::to_string(low));
  }
}

TEST(Planes, JoinToTheSameBitsForRandomPatterns) {
  Random random;
  std::vector<float> weight;
  for (int i = 0; i < 1000003; i++) weight.push_back(std::bit_cast<float>(random.bits()));
  testing::expect_same_bits(Planes(weight).join(), weight, "random bits");
}

TEST(Planes, HighPlaneIsTheNearest16BitValueTiesAwayFromZero) {
  EXPECT_EQ(Planes({std::bit_cast<float>(0x3f800000)}).high[0], 0x3f80);
  EXPECT_EQ(Planes({std::bit_cast<float>(0x3f807fff)}).high[0], 0x3f80);
  EXPECT_EQ(Planes({std::bit_cast<float>(0x3f808000)}).high[0], 0x3f81);  // a tie
  EXPECT_EQ(Planes({std::bit_cast<float>(0xbf808000)}).high[0], 0xbf81);
  EXPECT_EQ(Planes({std::numeric_limits<float>::max()}).high[0], 0x7f80);  // infinity
  EXPECT_EQ(Planes({-0.0F}).high[0], 0x8000);
  Random random;
  const std::vector<float> weight = random.normals(1001), rounded = Planes(weight).join(false);
  for (size_t i = 0; i < weight.size(); i++) {
    EXPECT_LE(std::abs(rounded[i] - weight[i]), std::abs(weight[i]) / 256);
  }
}

TEST(Planes, HaveTheSameBitsForAnyThreadsAndTarget) {
  Random random;
  std::vector<float> weight;
  for (int i = 0; i < 70001; i++) weight.push_back(std::bit_cast<float>(random.bits()));
  for (const bool with_low : {true, false}) {
    testing::expect_same_bits_everywhere([&] { return Planes(weight).join(with_low); });
  }
}

}  // namespace
}  // namespace headrace::math

#include "engine/math/dropout.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Grid;
using testing::Random;

constexpr uint64_t kSeed = 9, kStream = 4;

TEST(Dropout, DropsItsShareAndScalesTheRest) {
  Grid x(200, 501, 3), y(200, 501, 1);
  for (int64_t r = 0; r < 200; r++)
    for (int64_t c = 0; c < 501; c++) x.at(r, c) = 3;
  dropout(x.view(), 0.25F, kSeed, kStream, 0, y.view());
  int64_t dropped = 0;
  for (const float value : y.values()) {
    ASSERT_TRUE(value == 0 || value == 4) << value;
    dropped += value == 0;
  }
  EXPECT_NEAR(double(dropped) / (200 * 501), 0.25, 0.01);
}

TEST(Dropout, DependsOnSeedStreamAndPlaceAlone) {
  Random random;
  const Grid x(random, 90, 37);
  const auto dropped = [&](uint64_t seed, uint64_t stream) {
    Grid y(90, 37);
    dropout(x.view(), 0.5F, seed, stream, 0, y.view());
    return y.values();
  };
  const std::vector<float> whole = dropped(kSeed, kStream);
  EXPECT_NE(dropped(kSeed + 1, kStream), whole);
  EXPECT_NE(dropped(kSeed, kStream + 1), whole);
  Grid parts(90, 37);
  for (const auto& [first, rows] : {std::pair<int64_t, int64_t>{0, 1}, {1, 50}, {51, 39}})
    dropout(x.view().row_range(first, rows), 0.5F, kSeed, kStream, first,
            parts.view().row_range(first, rows));
  testing::expect_same_bits(parts.values(), whole, "in parts");
  testing::expect_same_bits_everywhere([&] { return dropped(kSeed, kStream); });
}

}  // namespace
}  // namespace headrace::math

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Random;

TEST(Reductions, SumOfSquaresIsExactToADoublesRounding) {
  Random random;
  for (const int64_t n : {0, 1, 15, 16, 17, 16384, 16385, 100003}) {
    const std::vector<float> values = random.normals(n, 1e3F);
    long double expected = 0;
    for (const float value : values)
      expected += static_cast<long double>(value) * static_cast<long double>(value);
    EXPECT_NEAR(sum_of_squares(values.data(), n), static_cast<double>(expected),
                1e-12 * static_cast<double>(expected));
  }
}

TEST(Reductions, SumOfSquaresDoesNotOverflow) {
  const std::vector<float> values(33, std::numeric_limits<float>::max());
  EXPECT_TRUE(std::isfinite(sum_of_squares(values.data(), 33)));
}

TEST(Reductions, HaveTheSameBitsForAnyThreadsAndTarget) {
  Random random;
  const std::vector<float> values = random.normals(300007);
  testing::expect_same_bits_everywhere([&] {
    const auto bits = std::bit_cast<uint64_t>(sum_of_squares(values.data(), std::ssize(values)));
    return std::vector<float>{static_cast<float>(bits >> 48), static_cast<float>(bits >> 24 & 0xffffff),
                              static_cast<float>(bits & 0xffffff)};
  });
}

TEST(Reductions, FindASingleValueThatIsNotFinite) {
  Random random;
  std::vector<float> values = random.normals(50001, 1e38F);
  for (float& value : values) value = std::isfinite(value) ? value : 1;
  EXPECT_TRUE(all_finite(values.data(), std::ssize(values)));
  for (const size_t at : {size_t{0}, size_t{16383}, size_t{33333}, size_t{50000}}) {
    for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()}) {
      const float before = values[at];
      values[at] = bad;
      EXPECT_FALSE(all_finite(values.data(), std::ssize(values))) << bad << " at " << at;
      values[at] = before;
    }
  }
  EXPECT_TRUE(all_finite(values.data(), 0));
}

}  // namespace
}  // namespace headrace::math

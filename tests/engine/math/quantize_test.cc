// Rows as 8-bit integers against PyTorch, exactly: tests/golden/make_quantize_golden.py.
#include "engine/math/quantize.h"

#include <gtest/gtest.h>
#include <oneapi/tbb/task_arena.h>

#include <cmath>
#include <vector>

#include "build_paths.h"
#include "tests/engine/math/kernel_testing.h"
#include "tests/support/safetensors_reader.h"

namespace headrace::math {
namespace {

TEST(Quantize, GivesPyTorchsIntegersAndScales) {
  const headrace::testing::SafetensorsReader golden(HEADRACE_GOLDEN_DIR "/quantize.safetensors");
  std::vector<float> weight = golden.floats("weight");
  const auto rows = int64_t(golden.shape("weight")[0]), columns = int64_t(golden.shape("weight")[1]);
  const Matrix view{weight.data(), rows, columns, columns};
  const std::vector<int32_t> expected = golden.integers("q");
  for (const int threads : {1, 3}) {
    oneapi::tbb::task_arena arena(threads);
    std::vector<int8_t> q(weight.size());
    std::vector<float> scales(static_cast<size_t>(rows)), values(weight.size());
    arena.execute([&] {
      quantize_rows(view, q.data(), scales.data());
      dequantize_rows(q.data(), scales.data(), {values.data(), rows, columns, columns});
    });
    testing::expect_same_bits(scales, golden.floats("scale"), "scales");
    testing::expect_same_bits(values, golden.floats("dequantized"), "values");
    for (size_t i = 0; i < q.size(); i++) ASSERT_EQ(q[i], expected[i]) << i;
  }
}

TEST(Quantize, IsAtMostHalfAScaleAwayAndKeepsZerosWithoutASign) {
  testing::Random random;
  constexpr int64_t kRows = 300, kColumns = 77;
  std::vector<float> weight = random.normals(kRows * kColumns, 0.02F);
  for (size_t i = 0; i < weight.size(); i += 3) weight[i] = -0.0F;
  std::vector<int8_t> q(weight.size());
  std::vector<float> scales(kRows), values(weight.size());
  quantize_rows({weight.data(), kRows, kColumns, kColumns}, q.data(), scales.data());
  dequantize_rows(q.data(), scales.data(), {values.data(), kRows, kColumns, kColumns});
  for (size_t i = 0; i < weight.size(); i++) {
    EXPECT_LE(std::abs(values[i] - weight[i]), 0.5001F * scales[i / kColumns]);
    EXPECT_FALSE(values[i] == 0 && std::signbit(values[i]));
    EXPECT_TRUE(weight[i] != 0 || q[i] == 0);
  }
}

}  // namespace
}  // namespace headrace::math

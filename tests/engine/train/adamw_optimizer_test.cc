#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/math/kernels.h"
#include "engine/train/optimizer.h"
#include "storage/aligned_memory.h"
#include "storage/layout.h"

namespace headrace::train {
namespace {

// One element, from zero moments: v = (1 - beta2) g^2. With beta2 rounded to float, 1 - beta2 is 1e-5 off.
TEST(AdamWOptimizer, TakesItsRatesAsDoubles) {
  RunOptions options;
  options.beta1 = 0.9;
  options.beta2 = 0.999;
  const auto optimizer = make_adamw(options);
  const storage::Layout layout({{.name = "weight",
                                 .rows = 1,
                                 .columns = 1,
                                 .block_rows = 1,
                                 .slots = 2,
                                 .planes = optimizer->planes(),
                                 .parts = {{.name = "weight", .shape = {1, 1}, .first_element = 0}}}});
  const storage::BlockLayout& block = layout.block(0);
  const storage::AlignedMemory memory(block.payload_bytes);
  std::byte* moments = memory.data() + block.planes[2].offset;
  const float gradient = 3;
  optimizer->update({.step = 1, .lr = 1e-3}, false, block, memory.data(), moments, &gradient);
  const float moment1 = *reinterpret_cast<const float*>(moments);
  const float moment2 = *reinterpret_cast<const float*>(memory.data() + block.planes[3].offset);
  EXPECT_NEAR(moment1, (1 - 0.9) * 3, 1e-6 * 0.3);
  EXPECT_NEAR(moment2, (1 - 0.999) * 9, 1e-6 * 0.009);
}

}  // namespace
}  // namespace headrace::train

#include "engine/math/dropout.h"

#include "engine/math/parallel.h"
#include "engine/math/random.h"

namespace headrace::math {
namespace {

void drop_row(const float* x, int64_t n, uint64_t threshold, float scale, PhiloxKey key, uint64_t stream,
              uint64_t index, float* y) {
  PhiloxCounter words{};
  for (int64_t i = 0; i < n; i++, index++) {
    if (i == 0 || index % 4 == 0) {
      const uint64_t block = index / 4;
      words = philox4x32_10(
          {uint32_t(block), uint32_t(block >> 32), uint32_t(stream), uint32_t(stream >> 32)}, key);
    }
    y[i] = words[index % 4] < threshold ? 0.0F : x[i] * scale;
  }
}

}  // namespace

void dropout(ConstMatrix x, float rate, uint64_t seed, uint64_t stream, int64_t first_row, Matrix y) {
  HEADRACE_CHECK(x.rows == y.rows && x.columns == y.columns && rate >= 0 && rate < 1);
  const auto threshold = uint64_t(double(rate) * 4294967296.0);
  const float scale = 1 / (1 - rate);
  parallel_rows(x.rows, x.columns, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++)
      drop_row(x.row(r), x.columns, threshold, scale, {uint32_t(seed), uint32_t(seed >> 32)}, stream,
               uint64_t(first_row + r) * uint64_t(x.columns), y.row(r));
  });
}

}  // namespace headrace::math

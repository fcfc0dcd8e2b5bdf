#include "engine/math/quantize.h"

#include <algorithm>
#include <cmath>

#include "engine/math/parallel.h"

namespace headrace::math {
namespace {

constexpr float kMost = 127;
// Added to a value of at most 2^22 and taken away again, it rounds to whole numbers, ties to even.
constexpr float kRounding = 12582912;  // 1.5 * 2^23

void quantize_row(const float* weight, int64_t n, int8_t* q, float& scale) {
  float most = 0;
  for (int64_t i = 0; i < n; i++) most = std::max(most, std::abs(weight[i]));
  scale = most / kMost;
  if (scale == 0) {  // also where the largest is so small that its 127th part is zero
    std::fill_n(q, n, int8_t{0});
    return;
  }
  for (int64_t i = 0; i < n; i++) {
    // Of subnormal scales, which are rounded coarsely, quotients may be larger.
    const float quotient = std::clamp(weight[i] / scale, -kMost, kMost);
    q[i] = static_cast<int8_t>((quotient + kRounding) - kRounding);
  }
}

}  // namespace

void quantize_rows(ConstMatrix weight, int8_t* q, float* scales) {
  parallel_rows(weight.rows, weight.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++)
      quantize_row(weight.row(r), weight.columns, q + r * weight.columns, scales[r]);
  });
}

void dequantize_rows(const int8_t* q, const float* scales, Matrix weight) {
  parallel_rows(weight.rows, weight.columns, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) {
      float* to = weight.row(r);
      for (int64_t c = 0; c < weight.columns; c++)
        to[c] = static_cast<float>(q[r * weight.columns + c]) * scales[r] + 0.0F;
    }
  });
}

}  // namespace headrace::math

// Symmetric 8-bit integers for the rows of a matrix, each row with a scale: w is about q scale with q from
// -127 to 127. Plain functions; work is spread over the calling oneTBB arena; nothing is allocated; the bits
// are PyTorch's: scale = w.abs().amax(1) / 127, q = (w / scale).round() (ties to even).
#pragma once

#include <cstdint>
#include <span>

#include "engine/math/views.h"

namespace headrace::math {

// q [rows, columns], contiguous; scales [rows]. A row of zeros has the scale 0. The weights are finite.
void quantize_rows(ConstMatrix weight, int8_t* q, float* scales);
// weight = q scale, rounded once; never -0.0, which would be a pruned weight.
void dequantize_rows(const int8_t* q, const float* scales, Matrix weight);

}  // namespace headrace::math

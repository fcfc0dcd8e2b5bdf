// Dropout (Srivastava et al. 2014), scaled while training. What is dropped is a function of seed, stream and
// place alone, so that nothing is kept for the backward pass, which is the same function of dy.
#pragma once

#include <cstdint>

#include "engine/math/views.h"

namespace headrace::math {

// y[r, c] = 0 with probability `rate` (below 1), else x[r, c] / (1 - rate); y may be x. The element's place
// in the stream is (first_row + r) * columns + c.
void dropout(ConstMatrix x, float rate, uint64_t seed, uint64_t stream, int64_t first_row, Matrix y);

}  // namespace headrace::math

// Elementwise activations, forward beside backward. GELU is in kernels.h.
//
// Plain functions over views, as the kernels there: work is spread over the calling oneTBB arena, nothing is
// allocated, and the bits depend on nothing but the operands. A NaN stays one.
#pragma once

#include "engine/math/views.h"

namespace headrace::math {

// y may be x. Backward: dx = dy * f'(x) with x the input of the forward pass; dx may be dy.
void relu(ConstMatrix x, Matrix y);  // the slope at zero is zero
void relu_backward(ConstMatrix x, ConstMatrix dy, Matrix dx);
void tanh(ConstMatrix x, Matrix y);
void tanh_backward(ConstMatrix x, ConstMatrix dy, Matrix dx);
void sigmoid(ConstMatrix x, Matrix y);  // 1 / (1 + e^-x)
void sigmoid_backward(ConstMatrix x, ConstMatrix dy, Matrix dx);

}  // namespace headrace::math

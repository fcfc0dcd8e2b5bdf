// Losses of values against targets of the same shape. Sums are doubles, added in the order of the elements,
// so that their bits depend on nothing but the operands.
#pragma once

#include "engine/math/views.h"

namespace headrace::math {

// Sum of (y - target)^2.
double squared_error_sum(ConstMatrix y, ConstMatrix target);
// dy = 2 scale (y - target); dy may be y.
void squared_error_backward(ConstMatrix y, ConstMatrix target, float scale, Matrix dy);

// Sum of -target log s(y) - (1 - target) log(1 - s(y)), with s the logistic function and targets from 0 to 1,
// as torch.nn.BCEWithLogitsLoss computes it: max(y, 0) - y target + log(1 + e^-|y|).
double binary_cross_entropy_sum(ConstMatrix y, ConstMatrix target);
// dy = scale (s(y) - target); dy may be y.
void binary_cross_entropy_backward(ConstMatrix y, ConstMatrix target, float scale, Matrix dy);

}  // namespace headrace::math

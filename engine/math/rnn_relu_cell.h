// torch.nn.RNN with the rectifier: h = max(gates + recurrent, 0).
#pragma once

#include "engine/math/recurrent_cell.h"

namespace headrace::math {

RecurrentCell rnn_relu_cell();

}  // namespace headrace::math

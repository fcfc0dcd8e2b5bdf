// torch.nn.RNN with tanh: h = tanh(gates + recurrent).
#pragma once

#include "engine/math/recurrent_cell.h"

namespace headrace::math {

RecurrentCell rnn_cell();

}  // namespace headrace::math

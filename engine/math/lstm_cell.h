// torch.nn.LSTM: gates are input, forget, cell, output (i, f, g, o);
//   c = sigmoid(f) c_before + sigmoid(i) tanh(g),  h = sigmoid(o) tanh(c)
#pragma once

#include "engine/math/recurrent_cell.h"

namespace headrace::math {

RecurrentCell lstm_cell();

}  // namespace headrace::math

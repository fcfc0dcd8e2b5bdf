// torch.nn.GRU: gates are reset, update, new (r, z, n), the recurrent product's come by themselves;
//   h = (1 - z) tanh(gates_n + r recurrent_n) + z h_before,  r and z after a sigmoid
#pragma once

#include "engine/math/recurrent_cell.h"

namespace headrace::math {

RecurrentCell gru_cell();

}  // namespace headrace::math

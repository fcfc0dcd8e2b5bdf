// One time step of a recurrent layer for all lanes, as torch.nn.RNN (tanh), LSTM and GRU define it, forward
// beside backward. Rows are lanes and may be strided; the gates of a row lie side by side, n columns each, in
// PyTorch's order: of an LSTM input, forget, cell, output; of a GRU reset, update, new. Work is spread over
// the calling oneTBB arena; every element depends on its own operands alone.
#pragma once

#include "engine/math/views.h"

namespace headrace::math {

struct CellStep {
  Matrix gates;                    // x W_ih^T + b_ih; becomes what the backward pass needs of the gates
  ConstMatrix recurrent;           // h_before W_hh^T + b_hh
  ConstMatrix h_before, c_before;  // [lanes, n]; c: of an LSTM only
  Matrix h, c;
};

struct CellGradient {
  Matrix gates;      // as the forward step left them; becomes the gradient of x W_ih^T + b_ih
  Matrix recurrent;  // of a GRU: as it was; becomes the gradient of h_before W_hh^T + b_hh. Of the others
                     // that is the gates' own
  ConstMatrix h_before, h, c_before, c;
  ConstMatrix dh;
  Matrix dh_before;  // of a GRU: set to the part that does not go through W_hh
  Matrix dc;         // of an LSTM: in with respect to c, out to c_before
};

void rnn_cell(const CellStep& step);  // h = tanh(gates + recurrent)
void rnn_cell_backward(const CellGradient& step);
void lstm_cell(const CellStep& step);  // c = f c_before + i g, h = o tanh(c)
void lstm_cell_backward(const CellGradient& step);
void gru_cell(const CellStep& step);  // h = (1 - z) tanh(gates_n + r recurrent_n) + z h_before
void gru_cell_backward(const CellGradient& step);

}  // namespace headrace::math

// What the kinds of recurrent layers have in common: one time step for all lanes, forward beside backward. A
// kind is a pair of files of its own (engine/math/lstm_cell.h) and a line of the table in
// models/recurrent_cells.cc.
//
// Rows are lanes and may be strided; the gates of a row lie side by side, n columns each, in PyTorch's order.
// Work is spread over the calling oneTBB arena; every element depends on its own operands alone.
#pragma once

#include <string>

#include "engine/math/parallel.h"
#include "engine/math/views.h"

namespace headrace::math {

struct CellStep {
  Matrix gates;                    // x W_ih^T + b_ih; becomes what the backward pass needs of the gates
  ConstMatrix recurrent;           // h_before W_hh^T + b_hh
  ConstMatrix h_before, c_before;  // [lanes, n]; c where the cell has one
  Matrix h, c;
};

struct CellGradient {
  Matrix gates;      // as the forward step left them; becomes the gradient of x W_ih^T + b_ih
  Matrix recurrent;  // where it is separate: as it was; becomes the gradient of h_before W_hh^T + b_hh. Else
                     // that is the gates' own
  ConstMatrix h_before, h, c_before, c;
  ConstMatrix dh;
  Matrix dh_before;  // where `recurrent` is separate: set to the part that does not go through W_hh
  Matrix dc;         // where the cell has one: in with respect to c, out to c_before
};

struct RecurrentCell {
  std::string name;             // "lstm"; also the "model_type" of a language model of such layers
  std::string title;            // for people: "LSTM"
  int64_t gates = 1;            // rows of its weights, in hidden sizes
  bool has_cell_state = false;  // c beside h
  // The gradient of the recurrent product is not that of the gates, and h_before has a way around the
  // product.
  bool separate_recurrent = false;
  void (*forward)(const CellStep&) = nullptr;
  void (*backward)(const CellGradient&) = nullptr;

  int64_t states() const { return has_cell_state ? 2 : 1; }
};

// For the cells' kernels: calls body(lane) for all lanes of n columns.
template <class Body>
void for_each_lane(int64_t lanes, int64_t n, const Body& body) {
  parallel_rows(lanes, 8 * n, [&](int64_t first, int64_t last) {
    for (int64_t lane = first; lane < last; lane++) body(lane);
  });
}

}  // namespace headrace::math

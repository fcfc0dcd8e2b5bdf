// A recurrent layer (torch.nn.RNN, LSTM or GRU of one layer) over lanes, trained by truncated
// back-propagation through time: the state that a window ends with is where the next one begins, and no
// gradient goes through it.
//
// The products with the input are one for all time steps. The recurrent weight is packed whole, once for each
// pass and span of micro-batches, and the loop over time runs inside one operation that holds it; its
// gradient is one product behind the loop.
#pragma once

#include <vector>

#include "engine/train/model.h"
#include "models/linear.h"
#include "models/recurrent_cells.h"

namespace headrace::models {

struct RecurrentParameters {
  stream::Parameter weight_ih;  // [gates * hidden, in]
  stream::Parameter weight_hh;  // [gates * hidden, hidden]
  stream::Parameter biases;     // bundle: bias_ih, bias_hh
  stream::Parameter state;      // bundle: h [lanes, hidden], of an LSTM then c
};

class RecurrentLayer {
 public:
  RecurrentLayer(const RecurrentCell& cell, const RecurrentParameters& parameters);

  // Of each micro-batch of a span, from forward to backward. Rows are [lane, time].
  struct Kept {
    std::vector<Tensor> x, y;       // [rows, in], [rows, hidden]
    std::vector<Tensor> begin;      // the state before the window: [states * lanes, hidden]
    std::vector<Tensor> gates;      // [rows, gates * hidden], what the cell keeps of them
    std::vector<Tensor> recurrent;  // likewise of the recurrent product, where the cell needs it
    std::vector<Tensor> c;          // [rows, hidden]
  };

  // `carried`: the lanes go on from the state that the step before left (Batch::starts_lanes says zero
  // instead); otherwise they begin with zero.
  Kept forward(Context& context, const train::MicroBatches& batch, train::Span span,
               const std::vector<Tensor>& x, bool carried) const;
  // Returns dx and gives the state its next value. `recompute`: what `kept` holds beside x and y is computed
  // again, not read.
  std::vector<Tensor> backward(Context& context, const train::MicroBatches& batch, train::Span span,
                               const Kept& kept, bool recompute, const std::vector<Tensor>& dy) const;

 private:
  enum class Packing : uint8_t { kForward, kBackward };

  int64_t hidden() const { return parameters_.weight_hh.columns; }
  int64_t gate_columns() const { return parameters_.weight_hh.rows; }
  std::vector<Tensor> begin(Context& context, const train::MicroBatches& batch, train::Span span,
                            bool carried) const;
  Tensor pack(Context& context, Packing packing) const;
  void loop_forward(Context& context, int64_t seq, const Tensor& packed, const Vectors& vectors, Kept& kept,
                    size_t i) const;
  Tensor loop_backward(Context& context, int64_t seq, const Tensor& packed, const Kept& kept, size_t i,
                       const Tensor& dy) const;
  Tensor shifted(Context& context, int64_t seq, const Kept& kept, size_t i) const;
  void weight_gradient(Context& context, int64_t seq, const std::vector<Tensor>& dgates,
                       const std::vector<Tensor>& before) const;
  void next_state(Context& context, const train::MicroBatches& batch, train::Span span,
                  const Kept& kept) const;

  const RecurrentCell& cell_;
  RecurrentParameters parameters_;
  Linear input_;
};

}  // namespace headrace::models

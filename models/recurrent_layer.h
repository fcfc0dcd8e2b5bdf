// A recurrent layer (torch.nn.RNN, LSTM or GRU of one layer) over lanes, trained by truncated
// back-propagation through time: the state that a window ends with is where the next one begins, and no
// gradient goes through it.
//
// The products with the input are one for all time steps; so is the recurrent weight's gradient, behind the
// loop over time (models/recurrent_loop.h).
#pragma once

#include <vector>

#include "engine/train/model.h"
#include "models/linear.h"
#include "models/recurrent_loop.h"

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

  // `carried`: the lanes go on from the state that the step before left (Batch::starts_lanes says zero
  // instead); otherwise they begin with zero.
  RecurrentKept forward(Context& context, const train::MicroBatches& batch, train::Span span,
                        const std::vector<Tensor>& x, bool carried) const;
  // Returns dx and gives the state its next value. `recompute`: what `kept` holds beside x and y is computed
  // again, not read.
  std::vector<Tensor> backward(Context& context, const train::MicroBatches& batch, train::Span span,
                               const RecurrentKept& kept, bool recompute,
                               const std::vector<Tensor>& dy) const;

 private:
  int64_t hidden() const { return parameters_.weight_hh.columns; }
  int64_t gate_columns() const { return parameters_.weight_hh.rows; }
  std::vector<Tensor> begin(Context& context, const train::MicroBatches& batch, train::Span span,
                            bool carried) const;
  Tensor shifted(Context& context, int64_t seq, const RecurrentKept& kept, size_t i) const;
  void weight_gradient(Context& context, int64_t seq, const std::vector<Tensor>& dgates,
                       const std::vector<Tensor>& before) const;
  void next_state(Context& context, const train::MicroBatches& batch, train::Span span,
                  const RecurrentKept& kept) const;

  const RecurrentCell& cell_;
  RecurrentParameters parameters_;
  Linear input_;
  RecurrentLoop loop_;
};

}  // namespace headrace::models

// The loop over time of a recurrent layer: its recurrent product and its cell, forward and backward.
//
// The recurrent weight is either packed whole and held while one operation goes through all time steps, or,
// where it does not fit, read again at each time step, block by block. Both give the same bits.
#pragma once

#include <vector>

#include "models/linear.h"
#include "models/recurrent_cells.h"

namespace headrace::models {

// Of each micro-batch of a span, from forward to backward. Rows are [lane, time].
struct RecurrentKept {
  std::vector<Tensor> x, y;       // [rows, in], [rows, hidden]
  std::vector<Tensor> begin;      // the state before the window: [states * lanes, hidden]
  std::vector<Tensor> gates;      // [rows, gates * hidden], what the cell keeps of them
  std::vector<Tensor> recurrent;  // likewise of the recurrent product, where the cell needs it
  std::vector<Tensor> c;          // [rows, hidden], where the cell has one
};

class RecurrentLoop {
 public:
  // `weight` [gates * hidden, hidden]; its bias is the second half of the layer's bundle of vectors.
  RecurrentLoop(const RecurrentCell& cell, stream::Parameter weight) : cell_(cell), weight_(weight) {}

  // Computes y, c and recurrent, which it makes, from x W_ih^T + b_ih in gates, and begin.
  void forward(Context& context, int64_t seq, bool streams_weight, const Vectors& vectors,
               RecurrentKept& kept) const;
  // The gradients of gates and recurrent take their places. Returns those of the recurrent product.
  std::vector<Tensor> backward(Context& context, int64_t seq, bool streams_weight, const RecurrentKept& kept,
                               const std::vector<Tensor>& dy) const;

 private:
  enum class Packing : uint8_t { kForward, kBackward };

  int64_t hidden() const { return weight_.columns; }
  int64_t gate_columns() const { return weight_.rows; }
  double flops(int64_t rows) const { return 2.0 * double(rows) * double(weight_.rows) * double(hidden()); }
  Tensor pack(Context& context, Packing packing) const;
  std::vector<Tensor> forward_writes(const RecurrentKept& kept, size_t i) const;
  std::vector<Tensor> backward_reads(const RecurrentKept& kept, size_t i, const Tensor& dy) const;
  std::vector<Tensor> backward_writes(const RecurrentKept& kept, size_t i) const;
  // Of the product's first panel: whether the cell has put something there.
  math::Accumulate first_into_carry() const {
    return cell_.separate_recurrent ? math::Accumulate::kYes : math::Accumulate::kNo;
  }

  void hold_forward(Context& context, int64_t seq, const Tensor& packed, const Vectors& vectors,
                    const RecurrentKept& kept, size_t i) const;
  void stream_forward(Context& context, int64_t seq, const Vectors& vectors, const RecurrentKept& kept) const;
  void hold_backward(Context& context, int64_t seq, const Tensor& packed, const RecurrentKept& kept, size_t i,
                     const Tensor& dy) const;
  void stream_backward(Context& context, int64_t seq, const RecurrentKept& kept,
                       const std::vector<Tensor>& dy) const;

  const RecurrentCell& cell_;
  stream::Parameter weight_;
};

}  // namespace headrace::models

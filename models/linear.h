// The linear layer y = x w^T + b. Its weight streams; its bias is part of the layer's bundle of vectors.
#pragma once

#include <vector>

#include "engine/stream/context.h"

namespace headrace::models {

using stream::Context;
using stream::Tensor;

// Vectors of a bundle as float32, and their gradient.
struct Vectors {
  Tensor values;    // [1, elements]
  Tensor gradient;  // likewise; entry kNoEntry in a forward pass
};

class Linear {
 public:
  // `bias`: first element of the bias in the bundle; negative: none.
  Linear(stream::Parameter weight, int64_t bias) : weight_(weight), bias_(bias) {}

  // y[i] = x[i] w^T + b for each micro-batch i: x [tokens, in], y [tokens, out].
  std::vector<Tensor> forward(Context& context, const std::vector<Tensor>& x, const Vectors& vectors) const;
  // The same into tensors that are there, or rows of one.
  void forward(Context& context, const std::vector<Tensor>& x, const Vectors& vectors,
               const std::vector<Tensor>& y) const;
  // Returns dx[i] = dy[i] w; adds dy^T x to the weight's gradient and dy's column sums to the bias's. `seq`:
  // tokens of a sequence.
  std::vector<Tensor> backward(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& dy,
                               const Vectors& vectors, int64_t seq) const;
  // The same without dx: of a first layer, whose input is the data.
  void backward_parameters(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& dy,
                           const Vectors& vectors, int64_t seq) const;

  // The weight's gradient, and dx where there is one to be written (`dx` empty: x is no layer's output).
  void backward(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& dy,
                const std::vector<Tensor>& dx, int64_t seq) const;

 private:
  void add_bias_gradient(Context& context, const std::vector<Tensor>& dy, const Vectors& vectors,
                         int64_t seq) const;

  stream::Parameter weight_;  // [out, in]
  int64_t bias_;
};

}  // namespace headrace::models

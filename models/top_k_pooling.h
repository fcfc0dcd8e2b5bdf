// Top-k pooling (Gao and Ji 2019; Cangea et al. 2018): of each graph the ceil(ratio * nodes) nodes stay that
// score highest along a learned direction, x p / |p|. Their rows are multiplied by tanh of the score, through
// which p learns; edges between nodes that stay, stay.
#pragma once

#include "engine/math/pooling.h"
#include "models/graph_convolution.h"

namespace headrace::models {

class TopKPooling {
 public:
  // `direction`: first element of p in the bundle of vectors.
  TopKPooling(int64_t direction, double ratio) : direction_(direction), ratio_(ratio) {}

  struct Pooled {
    Tensor x;         // what was pooled
    Tensor scores;    // [1, nodes]
    Tensor chosen;    // [1, nodes that stay], as int32
    Tensor y;         // their rows
    NodeGraph graph;  // between them
  };
  Pooled forward(Context& context, const NodeGraph& graph, const Tensor& x, const Vectors& vectors) const;
  // Returns dx; adds to the gradient of p.
  Tensor backward(Context& context, const Pooled& pooled, const Tensor& dy, const Vectors& vectors) const;

 private:
  int64_t direction_;
  double ratio_;
};

}  // namespace headrace::models

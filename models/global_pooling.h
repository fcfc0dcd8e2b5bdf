// Global pooling: the rows of a graph's nodes become one row, their mean, largest or sum of each column.
#pragma once

#include "engine/math/pooling.h"
#include "models/graph_convolution.h"

namespace headrace::models {

class GlobalPooling {
 public:
  explicit GlobalPooling(math::Pooling kind) : kind_(kind) {}

  Tensor forward(Context& context, const NodeGraph& graph, const Tensor& x) const;  // y [graphs, columns]
  Tensor backward(Context& context, const NodeGraph& graph, const Tensor& x, const Tensor& dy) const;  // dx

 private:
  math::Pooling kind_;
};

}  // namespace headrace::models

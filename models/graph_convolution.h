// The graph convolution of Kipf and Welling (2017): y = D^-1/2 (A + I) D^-1/2 (x w^T) + b, over the rows of
// neighbours. Its weight streams; its bias is part of the model's bundle of vectors.
#pragma once

#include <span>
#include <vector>

#include "engine/math/sparse.h"
#include "engine/stream/context.h"
#include "models/linear.h"

namespace headrace::models {

// The graph that a layer works on: the data's, or what pooling has left of it, which only the run knows.
struct NodeGraph {
  math::Adjacency whole = {};       // of the data
  Tensor part = {};                 // memory of math::induced(); kNoEntry: the whole
  int64_t nodes = 0, terms = 0;     // neighbours of all nodes, or at most so many
  std::vector<int64_t> first = {};  // nodes of each graph: [graphs + 1]

  bool is_part() const { return part.entry != stream::kNoEntry; }
  // Inside an operation that reads `part`.
  math::Adjacency adjacency(const Context& context) const;
  std::vector<Tensor> with(std::vector<Tensor> reads) const;  // and `part`, if there is one
};

class GraphConvolution {
 public:
  // `bias`: first element of the bias in the bundle.
  GraphConvolution(stream::Parameter weight, int64_t bias)
      : weight_(weight), linear_(weight, -1), bias_(bias) {}

  // x: the rows of all nodes [nodes, in], in parts of whole panels of 256 rows. `together`: all parts pass
  // each of the weight's blocks, not each part all blocks. Returns y [nodes, out].
  Tensor forward(Context& context, const NodeGraph& graph, const std::vector<Tensor>& x,
                 const Vectors& vectors, bool together) const;
  // Adds to the gradients of weight and bias; writes dx, in parts as x, where it is not empty.
  void backward(Context& context, const NodeGraph& graph, const std::vector<Tensor>& x, const Tensor& dy,
                const Vectors& vectors, const std::vector<Tensor>& dx, bool together) const;

 private:
  stream::Parameter weight_;  // [out, in]
  Linear linear_;
  int64_t bias_;
};

}  // namespace headrace::models

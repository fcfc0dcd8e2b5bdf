#include "models/global_pooling.h"

namespace headrace::models {

using stream::Workspace;

Tensor GlobalPooling::forward(Context& context, const NodeGraph& graph, const Tensor& x) const {
  const Tensor y = context.tensor(std::ssize(graph.first) - 1, x.columns);
  context.compute({.reads = {x}, .writes = {y}},
                  [&](Workspace) { math::pool(kind_, context.matrix(x), graph.first, context.matrix(y)); });
  return y;
}

Tensor GlobalPooling::backward(Context& context, const NodeGraph& graph, const Tensor& x,
                               const Tensor& dy) const {
  const Tensor dx = context.tensor(x.rows, x.columns);
  context.compute({.reads = {x, dy}, .writes = {dx}}, [&](Workspace) {
    math::pool_backward(kind_, context.matrix(x), graph.first, context.matrix(dy), context.matrix(dx));
  });
  return dx;
}

}  // namespace headrace::models

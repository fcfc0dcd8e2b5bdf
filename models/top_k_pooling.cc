#include "models/top_k_pooling.h"

#include <algorithm>
#include <cmath>

namespace headrace::models {

using stream::Workspace;

namespace {

// Int32 numbers in a tensor's memory.
std::span<int32_t> integers(const Context& context, const Tensor& tensor) {
  return {reinterpret_cast<int32_t*>(context.matrix(tensor).data), size_t(tensor.columns)};
}

std::vector<int64_t> kept_of(const std::vector<int64_t>& first, double ratio) {
  std::vector<int64_t> kept{0};
  for (size_t g = 0; g + 1 < first.size(); g++) {
    const int64_t nodes = first[g + 1] - first[g];
    kept.push_back(kept.back() + std::clamp<int64_t>(int64_t(std::ceil(ratio * double(nodes))), 1, nodes));
  }
  return kept;
}

}  // namespace

TopKPooling::Pooled TopKPooling::forward(Context& context, const NodeGraph& graph, const Tensor& x,
                                         const Vectors& vectors) const {
  Pooled pooled{.x = x, .scores = context.tensor(1, x.rows), .chosen = {}, .y = {}, .graph = {}};
  pooled.graph.first = kept_of(graph.first, ratio_);
  pooled.graph.nodes = pooled.graph.first.back();
  pooled.graph.terms = graph.terms;
  pooled.chosen = context.tensor(1, pooled.graph.nodes);
  context.compute({.reads = {x, vectors.values}, .writes = {pooled.scores}}, [&](Workspace) {
    math::node_scores(context.matrix(x), context.matrix(vectors.values).data + direction_,
                      context.matrix(pooled.scores).data);
  });
  context.compute({.reads = {pooled.scores},
                   .writes = {pooled.chosen},
                   .workspace_bytes = size_t(x.rows) * sizeof(int32_t)},
                  [&](Workspace workspace) {
                    math::choose_nodes(context.matrix(pooled.scores).data, graph.first, pooled.graph.first,
                                       {reinterpret_cast<int32_t*>(workspace.data()), size_t(x.rows)},
                                       integers(context, pooled.chosen));
                  });
  const size_t bytes = math::induced_bytes(x.rows, pooled.graph.nodes, graph.terms);
  pooled.graph.part = context.tensor(1, int64_t((bytes + sizeof(float) - 1) / sizeof(float)));
  context.compute({.reads = graph.with({pooled.chosen}), .writes = {pooled.graph.part}}, [&](Workspace) {
    math::induce(graph.adjacency(context), integers(context, pooled.chosen),
                 reinterpret_cast<std::byte*>(context.matrix(pooled.graph.part).data));
  });
  pooled.y = context.tensor(pooled.graph.nodes, x.columns);
  context.compute({.reads = {x, pooled.scores, pooled.chosen}, .writes = {pooled.y}}, [&](Workspace) {
    math::gate_nodes(context.matrix(x), context.matrix(pooled.scores).data, integers(context, pooled.chosen),
                     context.matrix(pooled.y));
  });
  return pooled;
}

Tensor TopKPooling::backward(Context& context, const Pooled& pooled, const Tensor& dy,
                             const Vectors& vectors) const {
  const Tensor& x = pooled.x;
  const Tensor dx = context.tensor(x.rows, x.columns);
  context.compute({.reads = {x, pooled.scores, pooled.chosen, dy, vectors.values},
                   .writes = {dx, vectors.gradient},
                   .workspace_bytes = size_t(pooled.graph.nodes) * sizeof(float)},
                  [&](Workspace workspace) {
                    math::gate_nodes_backward(
                        context.matrix(x), context.matrix(vectors.values).data + direction_,
                        context.matrix(pooled.scores).data, integers(context, pooled.chosen),
                        context.matrix(dy), context.matrix(dx),
                        context.matrix(vectors.gradient).data + direction_,
                        {reinterpret_cast<float*>(workspace.data()), size_t(pooled.graph.nodes)});
                  });
  return dx;
}

}  // namespace headrace::models

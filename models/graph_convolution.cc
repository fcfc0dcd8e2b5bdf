#include "models/graph_convolution.h"

#include "engine/math/gemm.h"
#include "engine/math/pooling.h"

namespace headrace::models {

using math::Accumulate;
using stream::Workspace;

namespace {

// Rows of `whole` as `parts` has them.
std::vector<Tensor> cut_as(const Tensor& whole, const std::vector<Tensor>& parts) {
  std::vector<Tensor> cut;
  int64_t row = 0;
  for (const Tensor& part : parts) {
    cut.push_back(whole.row_range(row, part.rows));
    row += part.rows;
  }
  HEADRACE_CHECK(row == whole.rows);
  return cut;
}

std::vector<Tensor> one(const std::vector<Tensor>& parts, size_t index) {
  return parts.empty() ? std::vector<Tensor>{} : std::vector{parts[index]};
}

}  // namespace

math::Adjacency NodeGraph::adjacency(const Context& context) const {
  if (!is_part()) return whole;
  return math::induced(reinterpret_cast<const std::byte*>(context.matrix(part).data), nodes);
}

std::vector<Tensor> NodeGraph::with(std::vector<Tensor> reads) const {
  if (is_part()) reads.push_back(part);
  return reads;
}

Tensor GraphConvolution::forward(Context& context, const NodeGraph& graph, const std::vector<Tensor>& x,
                                 const Vectors& vectors, bool together) const {
  const Tensor z = context.tensor(graph.nodes, weight_.rows);
  const std::vector<Tensor> parts = cut_as(z, x);
  if (together) linear_.forward(context, x, vectors, parts);
  for (size_t i = 0; !together && i < x.size(); i++) linear_.forward(context, {x[i]}, vectors, {parts[i]});
  const Tensor y = context.tensor(graph.nodes, weight_.rows);
  context.compute({.reads = graph.with({z, vectors.values}),
                   .writes = {y},
                   .flops = 2.0 * double(graph.terms) * double(weight_.rows)},
                  [&](Workspace) {
                    math::aggregate(graph.adjacency(context), context.matrix(z),
                                    context.matrix(vectors.values).data + bias_, context.matrix(y));
                  });
  return y;
}

void GraphConvolution::backward(Context& context, const NodeGraph& graph, const std::vector<Tensor>& x,
                                const Tensor& dy, const Vectors& vectors, const std::vector<Tensor>& dx,
                                bool together) const {
  context.compute({.reads = {dy}, .writes = {vectors.gradient}}, [&](Workspace) {
    math::column_sums(context.matrix(dy), math::kPanel, context.matrix(vectors.gradient).data + bias_,
                      Accumulate::kYes);
  });
  const Tensor dz = context.tensor(graph.nodes, weight_.rows);
  context.compute(
      {.reads = graph.with({dy}), .writes = {dz}, .flops = 2.0 * double(graph.terms) * double(weight_.rows)},
      [&](Workspace) {
        math::aggregate(graph.adjacency(context), context.matrix(dy), nullptr, context.matrix(dz));
      });
  const std::vector<Tensor> parts = cut_as(dz, x);
  if (together) return linear_.backward(context, x, parts, dx, math::kPanel);
  for (size_t i = 0; i < x.size(); i++)
    linear_.backward(context, {x[i]}, {parts[i]}, one(dx, i), math::kPanel);
}

}  // namespace headrace::models

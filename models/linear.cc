#include "models/linear.h"

#include <algorithm>

#include "engine/math/gemm.h"

namespace headrace::models {

using math::Accumulate;
using math::WeightView;
using stream::BlockRows;
using stream::Work;
using stream::Workspace;

std::vector<Tensor> Linear::forward(Context& context, const std::vector<Tensor>& x,
                                    const Vectors& vectors) const {
  std::vector<Tensor> y;
  for (const Tensor& input : x) y.push_back(context.tensor(input.rows, weight_.rows));
  forward(context, x, vectors, y);
  return y;
}

void Linear::forward(Context& context, const std::vector<Tensor>& x, const Vectors& vectors,
                     const std::vector<Tensor>& y) const {
  context.forward({.weight = weight_,
                   .items = x.size(),
                   .work =
                       [&](const BlockRows& rows, size_t i) {
                         return Work{
                             .reads = bias_ < 0 ? std::vector{x[i]} : std::vector{x[i], vectors.values},
                             .writes = {y[i]},
                             .workspace_bytes =
                                 math::gemm_nt_workspace_bytes(x[i].rows, rows.count, weight_.columns),
                             .flops = 2.0 * double(x[i].rows) * double(rows.count) * double(weight_.columns)};
                       },
                   .run =
                       [&](const BlockRows& rows, const WeightView& w, size_t i, Workspace workspace) {
                         const float* bias =
                             bias_ < 0 ? nullptr : context.matrix(vectors.values).data + bias_ + rows.first;
                         math::gemm_nt(context.matrix(x[i]), w, bias,
                                       context.matrix(y[i]).column_range(rows.first, rows.count), workspace);
                       }});
}

std::vector<Tensor> Linear::backward(Context& context, const std::vector<Tensor>& x,
                                     const std::vector<Tensor>& dy, const Vectors& vectors,
                                     int64_t seq) const {
  std::vector<Tensor> dx;
  for (const Tensor& input : x) dx.push_back(context.tensor(input.rows, weight_.columns));
  backward(context, x, dy, dx, seq);
  add_bias_gradient(context, dy, vectors, seq);
  return dx;
}

void Linear::backward_parameters(Context& context, const std::vector<Tensor>& x,
                                 const std::vector<Tensor>& dy, const Vectors& vectors, int64_t seq) const {
  backward(context, x, dy, std::vector<Tensor>{}, seq);
  add_bias_gradient(context, dy, vectors, seq);
}

void Linear::add_bias_gradient(Context& context, const std::vector<Tensor>& dy, const Vectors& vectors,
                               int64_t seq) const {
  for (size_t i = 0; bias_ >= 0 && i < dy.size(); i++)
    context.compute({.reads = {dy[i]}, .writes = {vectors.gradient}}, [&](Workspace) {
      math::column_sums(context.matrix(dy[i]), seq, context.matrix(vectors.gradient).data + bias_,
                        Accumulate::kYes);
    });
}

void Linear::backward(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& dy,
                      const std::vector<Tensor>& dx, int64_t seq) const {
  const bool gives_dx = !dx.empty();
  context.backward(
      {.weight = weight_,
       .items = x.size(),
       .reads_weight = gives_dx,
       .work =
           [&](const BlockRows& rows, size_t i) {
             return Work{.reads = {x[i], dy[i]},
                         .writes = gives_dx ? std::vector{dx[i]} : std::vector<Tensor>{},
                         .workspace_bytes =
                             std::max(math::gemm_nn_workspace_bytes(x[i].rows, rows.count, weight_.columns),
                                      math::gemm_tn_workspace_bytes(x[i].rows, rows.count, weight_.columns)),
                         .flops = (gives_dx ? 4.0 : 2.0) * double(x[i].rows) * double(rows.count) *
                                  double(weight_.columns)};
           },
       .run =
           [&](const BlockRows& rows, const WeightView& w, size_t i, math::Matrix dw, Accumulate accumulate,
               Workspace workspace) {
             const math::ConstMatrix part = context.matrix(dy[i]).column_range(rows.first, rows.count);
             if (gives_dx)
               math::gemm_nn(part, w, context.matrix(dx[i]),
                             rows.first == 0 ? Accumulate::kNo : Accumulate::kYes, workspace);
             math::gemm_tn(part, context.matrix(x[i]), seq, dw, accumulate, workspace);
           }});
}

}  // namespace headrace::models

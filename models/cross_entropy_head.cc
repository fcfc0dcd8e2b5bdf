#include "models/cross_entropy_head.h"

#include <algorithm>

#include "engine/math/gemm.h"
#include "engine/math/kernels.h"

namespace headrace::models {

using math::Accumulate;
using math::Matrix;
using math::SoftmaxState;
using math::WeightView;
using stream::BlockRows;
using stream::Order;
using stream::Work;
using stream::Workspace;

namespace {

static_assert(sizeof(SoftmaxState) == 3 * sizeof(float));

std::span<SoftmaxState> states_of(const Context& context, const Tensor& tensor) {
  return {reinterpret_cast<SoftmaxState*>(context.matrix(tensor).data), size_t(tensor.rows)};
}

}  // namespace

Vectors CrossEntropyHead::vectors(Context& context, bool gradient) const {
  if (!bias_) return {};
  return {.values = context.load_vectors(*bias_),
          .gradient = gradient ? context.gradient_of_vectors(*bias_) : Tensor{}};
}

const float* CrossEntropyHead::bias_of(const Context& context, const Vectors& vectors, int64_t first) const {
  return bias_ ? context.matrix(vectors.values).data + first : nullptr;
}

CrossEntropyHead::Saved CrossEntropyHead::forward(Context& context, const train::MicroBatches& batch,
                                                  train::Span span, const std::vector<Tensor>& x,
                                                  std::vector<double>& loss_sums) const {
  Saved saved;
  const Vectors bias = vectors(context, false);
  for (const Tensor& input : x) {
    const Tensor states = context.tensor(input.rows, 3);
    context.compute({.writes = {states}},
                    [&](Workspace) { math::softmax_start(states_of(context, states)); });
    saved.states.push_back(states);
  }
  context.forward(
      {.weight = weight_,
       .items = x.size(),
       .order = Order::kInOrder,
       .work =
           [&](const BlockRows& rows, size_t i) {
             if (i == 0) saved.logits.emplace_back();
             saved.logits.back().push_back(context.tensor(x[i].rows, rows.count));
             return Work{
                 .reads = bias_ ? std::vector{x[i], bias.values} : std::vector{x[i]},
                 .writes = {saved.states[i], saved.logits.back().back()},
                 .workspace_bytes = math::gemm_nt_workspace_bytes(x[i].rows, rows.count, weight_.columns),
                 .flops = 2.0 * double(x[i].rows) * double(rows.count) * double(weight_.columns)};
           },
       .run =
           [&](const BlockRows& rows, const WeightView& w, size_t i, Workspace workspace) {
             const Matrix logits = context.matrix(saved.logits[rows.index][i]);
             math::gemm_nt(context.matrix(x[i]), w, bias_of(context, bias, rows.first), logits, workspace);
             if (observer_) observer_(span.first + i, rows.first, logits);
             math::softmax_fold(logits, rows.first, batch.targets(span.first + i),
                                states_of(context, saved.states[i]));
           }});
  for (size_t i = 0; i < x.size(); i++)
    context.compute({.reads = {saved.states[i]}}, [&](Workspace) {
      const std::span<const SoftmaxState> states = states_of(context, saved.states[i]);
      const std::span<const int32_t> targets = batch.targets(span.first + i);
      const size_t seq = size_t(batch.seq()), first = batch.first_sequence(span.first + i);
      for (size_t t = 0; t < targets.size(); t += seq) {
        const size_t rows = std::min(seq, targets.size() - t);  // the last unit may be smaller
        loss_sums[first + t / seq] =
            math::cross_entropy_sum(states.subspan(t, rows), targets.subspan(t, rows));
      }
    });
  return saved;
}

std::vector<Tensor> CrossEntropyHead::backward(Context& context, const train::MicroBatches& batch,
                                               train::Span span, const std::vector<Tensor>& x,
                                               const Saved& saved, bool recompute_logits) const {
  std::vector<Tensor> dx;
  for (const Tensor& input : x) dx.push_back(context.tensor(input.rows, input.columns));
  const float scale = 1.0F / float(batch.total_tokens());
  std::vector<std::vector<Tensor>> logits;
  const Vectors bias = vectors(context, true);
  context.backward(
      {.weight = weight_,
       .items = x.size(),
       .work =
           [&](const BlockRows& rows, size_t i) {
             if (i == 0) logits.emplace_back();
             logits.back().push_back(recompute_logits ? context.tensor(x[i].rows, rows.count)
                                                      : saved.logits[logits.size() - 1][i]);
             std::vector<Tensor> reads{x[i], saved.states[i]};
             std::vector<Tensor> writes{dx[i], logits.back().back()};
             if (bias_) reads.push_back(bias.values), writes.push_back(bias.gradient);
             return Work{.reads = std::move(reads),
                         .writes = std::move(writes),
                         .workspace_bytes = std::max(
                             {math::gemm_nt_workspace_bytes(x[i].rows, rows.count, weight_.columns),
                              math::gemm_nn_workspace_bytes(x[i].rows, rows.count, weight_.columns),
                              math::gemm_tn_workspace_bytes(x[i].rows, rows.count, weight_.columns)}),
                         .flops = (recompute_logits ? 6.0 : 4.0) * double(x[i].rows) * double(rows.count) *
                                  double(weight_.columns)};
           },
       .run =
           [&](const BlockRows& rows, const WeightView& w, size_t i, Matrix dw, Accumulate accumulate,
               Workspace workspace) {
             const Matrix d = context.matrix(logits[rows.index][i]);
             if (recompute_logits)
               math::gemm_nt(context.matrix(x[i]), w, bias_of(context, bias, rows.first), d, workspace);
             math::cross_entropy_backward(d, rows.first, batch.targets(span.first + i),
                                          states_of(context, saved.states[i]), scale);
             math::gemm_nn(d, w, context.matrix(dx[i]), rows.first == 0 ? Accumulate::kNo : Accumulate::kYes,
                           workspace);
             math::gemm_tn(d, context.matrix(x[i]), batch.seq(), dw, accumulate, workspace);
             if (bias_)
               math::column_sums(d, batch.seq(), context.matrix(bias.gradient).data + rows.first,
                                 Accumulate::kYes);
           }});
  if (bias_) context.end_vectors(*bias_);
  return dx;
}

}  // namespace headrace::models

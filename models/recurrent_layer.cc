#include "models/recurrent_layer.h"

#include <algorithm>

#include "engine/math/gemm.h"
#include "engine/math/kernels.h"

namespace headrace::models {

using math::Accumulate;
using math::Matrix;
using math::WeightView;
using stream::BlockRows;
using stream::Work;
using stream::Workspace;

namespace {

// The rows of one time step: [lanes, columns] of [lane, time].
Matrix at_time(Matrix all, int64_t seq, int64_t time) {
  return {all.row(time), all.rows / seq, all.columns, all.stride * seq};
}

// The state's part 0 (h) or 1 (c) of [states * lanes, hidden].
Matrix part_of(Matrix begin, int64_t lanes, int64_t part) { return begin.row_range(part * lanes, lanes); }

void copy_rows(math::ConstMatrix from, Matrix to) {
  for (int64_t r = 0; r < from.rows; r++) std::copy_n(from.row(r), from.columns, to.row(r));
}

Matrix contiguous(float* data, int64_t rows, int64_t columns) { return {data, rows, columns, columns}; }

}  // namespace

RecurrentLayer::RecurrentLayer(const RecurrentCell& cell, const RecurrentParameters& parameters)
    : cell_(cell),
      parameters_(parameters),
      input_(parameters.weight_ih, 0),
      loop_(cell, parameters.weight_hh) {}

std::vector<Tensor> RecurrentLayer::begin(Context& context, const train::MicroBatches& batch,
                                          train::Span span, bool carried) const {
  const Tensor state = carried ? context.load_state(parameters_.state) : Tensor{};
  // The state is read in any case, so that all steps have one schedule.
  const bool zero = !carried || batch.batch().starts_lanes;
  const int64_t all_lanes = parameters_.state.rows / (cell_.states() * hidden());
  std::vector<Tensor> begins;
  for (size_t i = span.first; i < span.last; i++) {
    const int64_t lanes = batch.tokens(i) / batch.seq(), first = int64_t(batch.first_sequence(i));
    begins.push_back(context.tensor(cell_.states() * lanes, hidden()));
    const Tensor to = begins.back();
    context.compute(
        {.reads = carried ? std::vector{state} : std::vector<Tensor>{}, .writes = {to}}, [&](Workspace) {
          const Matrix values = context.matrix(to);
          std::fill_n(values.data, values.rows * values.columns, 0.0F);
          if (zero) return;
          const Matrix all = contiguous(context.matrix(state).data, cell_.states() * all_lanes, hidden());
          for (int64_t part = 0; part < cell_.states(); part++)
            copy_rows(all.row_range(part * all_lanes + first, lanes), part_of(values, lanes, part));
        });
  }
  return begins;
}

RecurrentKept RecurrentLayer::forward(Context& context, const train::MicroBatches& batch, train::Span span,
                                      const std::vector<Tensor>& x, bool carried) const {
  const Vectors vectors{.values = context.load_vectors(parameters_.biases), .gradient = {}};
  RecurrentKept kept;
  kept.x = x;
  kept.gates = input_.forward(context, x, vectors);
  kept.begin = begin(context, batch, span, carried);
  loop_.forward(context, batch.seq(), batch.policy().streams_recurrent, vectors, kept);
  return kept;
}

// The h that each time step began with: [rows, hidden].
Tensor RecurrentLayer::shifted(Context& context, int64_t seq, const RecurrentKept& kept, size_t i) const {
  const Tensor before = context.tensor(kept.y[i].rows, hidden());
  context.compute({.reads = {kept.begin[i], kept.y[i]}, .writes = {before}}, [&](Workspace) {
    const Matrix h = context.matrix(kept.y[i]), to = context.matrix(before);
    const int64_t lanes = h.rows / seq;
    copy_rows(part_of(context.matrix(kept.begin[i]), lanes, 0), at_time(to, seq, 0));
    for (int64_t t = 1; t < seq; t++) copy_rows(at_time(h, seq, t - 1), at_time(to, seq, t));
  });
  return before;
}

void RecurrentLayer::weight_gradient(Context& context, int64_t seq, const std::vector<Tensor>& dgates,
                                     const std::vector<Tensor>& before) const {
  context.backward({.weight = parameters_.weight_hh,
                    .items = dgates.size(),
                    .reads_weight = false,
                    .work =
                        [&](const BlockRows& rows, size_t i) {
                          return Work{
                              .reads = {dgates[i], before[i]},
                              .workspace_bytes =
                                  math::gemm_tn_workspace_bytes(dgates[i].rows, rows.count, hidden()),
                              .flops = 2.0 * double(dgates[i].rows) * double(rows.count) * double(hidden())};
                        },
                    .run =
                        [&](const BlockRows& rows, const WeightView&, size_t i, Matrix dw,
                            Accumulate accumulate, Workspace workspace) {
                          math::gemm_tn(context.matrix(dgates[i]).column_range(rows.first, rows.count),
                                        context.matrix(before[i]), seq, dw, accumulate, workspace);
                        }});
}

// Of each lane the last time step.
void RecurrentLayer::next_state(Context& context, const train::MicroBatches& batch, train::Span span,
                                const RecurrentKept& kept) const {
  const int64_t all_lanes = parameters_.state.rows / (cell_.states() * hidden());
  const Tensor next = context.gradient_of_vectors(parameters_.state);
  for (size_t i = 0; i < kept.y.size(); i++) {
    std::vector<Tensor> reads{kept.y[i]};
    if (cell_.has_cell_state) reads.push_back(kept.c[i]);
    context.compute({.reads = reads, .writes = {next}}, [&](Workspace) {
      const Matrix all = contiguous(context.matrix(next).data, cell_.states() * all_lanes, hidden());
      const int64_t first = int64_t(batch.first_sequence(span.first + i)), seq = batch.seq();
      for (int64_t part = 0; part < cell_.states(); part++) {
        const Matrix last = at_time(context.matrix(reads[size_t(part)]), seq, seq - 1);
        copy_rows(last, all.row_range(part * all_lanes + first, last.rows));
      }
    });
  }
  context.end_vectors(parameters_.state);
}

std::vector<Tensor> RecurrentLayer::backward(Context& context, const train::MicroBatches& batch,
                                             train::Span span, const RecurrentKept& from_forward,
                                             bool recompute, const std::vector<Tensor>& dy) const {
  const int64_t seq = batch.seq();
  const Vectors vectors{.values = context.load_vectors(parameters_.biases),
                        .gradient = context.gradient_of_vectors(parameters_.biases)};
  const bool streams = batch.policy().streams_recurrent;
  RecurrentKept kept = from_forward;
  if (recompute) {
    kept = {.x = from_forward.x, .y = {}, .begin = from_forward.begin, .gates = {}, .recurrent = {}, .c = {}};
    kept.gates = input_.forward(context, kept.x, vectors);
    loop_.forward(context, seq, streams, vectors, kept);
  }
  next_state(context, batch, span, kept);
  const std::vector<Tensor> drecurrent = loop_.backward(context, seq, streams, kept, dy);
  std::vector<Tensor> before;
  for (size_t i = 0; i < dy.size(); i++) before.push_back(shifted(context, seq, kept, i));
  weight_gradient(context, seq, drecurrent, before);
  for (const Tensor& gradient : drecurrent)
    context.compute({.reads = {gradient}, .writes = {vectors.gradient}}, [&](Workspace) {
      math::column_sums(context.matrix(gradient), seq, context.matrix(vectors.gradient).data + gate_columns(),
                        Accumulate::kYes);
    });
  std::vector<Tensor> dx = input_.backward(context, kept.x, kept.gates, vectors, seq);
  context.end_vectors(parameters_.biases);
  return dx;
}

}  // namespace headrace::models

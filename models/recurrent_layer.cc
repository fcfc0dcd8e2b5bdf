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
    : cell_(cell), parameters_(parameters), input_(parameters.weight_ih, 0) {}

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

Tensor RecurrentLayer::pack(Context& context, Packing packing) const {
  const stream::Parameter& weight = parameters_.weight_hh;
  const bool forward = packing == Packing::kForward;
  const Tensor packed = context.tensor(1, forward ? math::packed_nt_floats(weight.rows, weight.columns)
                                                  : math::packed_nn_floats(weight.rows, weight.columns));
  context.forward({.weight = weight,
                   .work = [&](const BlockRows&, size_t) { return Work{.writes = {packed}}; },
                   .run =
                       [&](const BlockRows& rows, const WeightView& w, size_t, Workspace) {
                         float* to = context.matrix(packed).data;
                         if (forward)
                           math::pack_nt(w, rows.first, to);
                         else
                           math::pack_nn(w, rows.first, weight.rows, to);
                       }});
  return packed;
}

RecurrentLayer::Kept RecurrentLayer::forward(Context& context, const train::MicroBatches& batch,
                                             train::Span span, const std::vector<Tensor>& x,
                                             bool carried) const {
  const Vectors vectors{.values = context.load_vectors(parameters_.biases), .gradient = {}};
  Kept kept;
  kept.x = x;
  kept.gates = input_.forward(context, x, vectors);
  kept.begin = begin(context, batch, span, carried);
  const Tensor packed = pack(context, Packing::kForward);
  for (size_t i = 0; i < x.size(); i++) loop_forward(context, batch.seq(), packed, vectors, kept, i);
  return kept;
}

void RecurrentLayer::loop_forward(Context& context, int64_t seq, const Tensor& packed, const Vectors& vectors,
                                  Kept& kept, size_t i) const {
  const int64_t rows = kept.x[i].rows, lanes = rows / seq;
  kept.y.push_back(context.tensor(rows, hidden()));
  std::vector<Tensor> writes{kept.gates[i], kept.y[i]};
  if (cell_.has_cell_state) writes.push_back(kept.c.emplace_back(context.tensor(rows, hidden())));
  if (cell_.separate_recurrent)
    writes.push_back(kept.recurrent.emplace_back(context.tensor(rows, gate_columns())));
  const size_t scratch = cell_.separate_recurrent ? 0 : size_t(lanes * gate_columns()) * sizeof(float);
  context.compute({.reads = {packed, vectors.values, kept.begin[i]},
                   .writes = writes,
                   .workspace_bytes = scratch,
                   .flops = 2.0 * double(rows) * double(gate_columns()) * double(hidden())},
                  [&](Workspace workspace) {
                    const float* bias = context.matrix(vectors.values).data + gate_columns();
                    const Matrix start = context.matrix(kept.begin[i]), h = context.matrix(kept.y[i]);
                    const Matrix c = cell_.has_cell_state ? context.matrix(kept.c[i]) : Matrix{};
                    for (int64_t t = 0; t < seq; t++) {
                      const auto before = [&](const Matrix& all, int64_t part) {
                        return t == 0 ? part_of(start, lanes, part) : at_time(all, seq, t - 1);
                      };
                      const Matrix product =
                          cell_.separate_recurrent
                              ? at_time(context.matrix(kept.recurrent[i]), seq, t)
                              : contiguous(reinterpret_cast<float*>(workspace.data()), lanes, gate_columns());
                      math::gemm_nt_packed(before(h, 0), context.matrix(packed).data, bias, product);
                      math::CellStep step{.gates = at_time(context.matrix(kept.gates[i]), seq, t),
                                          .recurrent = product,
                                          .h_before = before(h, 0),
                                          .c_before = {},
                                          .h = at_time(h, seq, t),
                                          .c = {}};
                      if (cell_.has_cell_state) step.c_before = before(c, 1), step.c = at_time(c, seq, t);
                      cell_.forward(step);
                    }
                  });
}

// The gradients of the gates take their place. Returns those of the recurrent product.
Tensor RecurrentLayer::loop_backward(Context& context, int64_t seq, const Tensor& packed, const Kept& kept,
                                     size_t i, const Tensor& dy) const {
  const int64_t rows = kept.x[i].rows, lanes = rows / seq, part = lanes * hidden();
  std::vector<Tensor> reads{packed, kept.begin[i], kept.y[i], dy}, writes{kept.gates[i]};
  if (cell_.has_cell_state) reads.push_back(kept.c[i]);
  if (cell_.separate_recurrent) writes.push_back(kept.recurrent[i]);
  const Tensor drecurrent = cell_.separate_recurrent ? kept.recurrent[i] : kept.gates[i];
  context.compute({.reads = reads,
                   .writes = writes,
                   .workspace_bytes = size_t(3 * part) * sizeof(float),
                   .flops = 2.0 * double(rows) * double(gate_columns()) * double(hidden())},
                  [&](Workspace workspace) {
                    auto* floats = reinterpret_cast<float*>(workspace.data());
                    std::fill_n(floats, 3 * part, 0.0F);
                    const Matrix dh = contiguous(floats, lanes, hidden());
                    const Matrix carry = contiguous(floats + part, lanes, hidden());
                    const Matrix dc = contiguous(floats + 2 * part, lanes, hidden());
                    const Matrix start = context.matrix(kept.begin[i]), h = context.matrix(kept.y[i]);
                    const Matrix c = cell_.has_cell_state ? context.matrix(kept.c[i]) : Matrix{};
                    for (int64_t t = seq - 1; t >= 0; t--) {
                      const auto before = [&](const Matrix& all, int64_t state) {
                        return t == 0 ? part_of(start, lanes, state) : at_time(all, seq, t - 1);
                      };
                      math::add(at_time(context.matrix(dy), seq, t), carry, dh);
                      math::CellGradient step{.gates = at_time(context.matrix(kept.gates[i]), seq, t),
                                              .recurrent = {},
                                              .h_before = before(h, 0),
                                              .h = at_time(h, seq, t),
                                              .c_before = {},
                                              .c = {},
                                              .dh = dh,
                                              .dh_before = carry,
                                              .dc = dc};
                      if (cell_.has_cell_state) step.c_before = before(c, 1), step.c = at_time(c, seq, t);
                      if (cell_.separate_recurrent)
                        step.recurrent = at_time(context.matrix(kept.recurrent[i]), seq, t);
                      cell_.backward(step);
                      if (t > 0)
                        math::gemm_nn_packed(at_time(context.matrix(drecurrent), seq, t),
                                             context.matrix(packed).data, carry,
                                             cell_.separate_recurrent ? Accumulate::kYes : Accumulate::kNo);
                    }
                  });
  return drecurrent;
}

// The h that each time step began with: [rows, hidden].
Tensor RecurrentLayer::shifted(Context& context, int64_t seq, const Kept& kept, size_t i) const {
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
                                const Kept& kept) const {
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
                                             train::Span span, const Kept& from_forward, bool recompute,
                                             const std::vector<Tensor>& dy) const {
  const int64_t seq = batch.seq();
  const Vectors vectors{.values = context.load_vectors(parameters_.biases),
                        .gradient = context.gradient_of_vectors(parameters_.biases)};
  Kept kept = from_forward;
  if (recompute) {
    kept = {.x = from_forward.x, .y = {}, .begin = from_forward.begin, .gates = {}, .recurrent = {}, .c = {}};
    kept.gates = input_.forward(context, kept.x, vectors);
    const Tensor packed = pack(context, Packing::kForward);
    for (size_t i = 0; i < kept.x.size(); i++) loop_forward(context, seq, packed, vectors, kept, i);
  }
  next_state(context, batch, span, kept);
  const Tensor packed = pack(context, Packing::kBackward);
  std::vector<Tensor> drecurrent, before;
  for (size_t i = 0; i < dy.size(); i++) {
    drecurrent.push_back(loop_backward(context, seq, packed, kept, i, dy[i]));
    before.push_back(shifted(context, seq, kept, i));
  }
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

#include "models/recurrent_loop.h"

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

Matrix floats(Workspace workspace, int64_t rows, int64_t columns) {
  return {reinterpret_cast<float*>(workspace.data()), rows, columns, columns};
}

void fill_zero(Matrix contiguous) {
  std::fill_n(contiguous.data, contiguous.rows * contiguous.columns, 0.0F);
}

// A micro-batch, inside an operation that names what is asked for.
struct Window {
  const Context& context;
  const RecurrentCell& cell;
  const RecurrentKept& kept;
  int64_t seq;
  size_t i;

  int64_t lanes() const { return kept.x[i].rows / seq; }
  // The rows of one time step: [lanes, columns] of [lane, time].
  Matrix at(const Tensor& all, int64_t time) const {
    const Matrix matrix = context.matrix(all);
    return {matrix.row(time), lanes(), matrix.columns, matrix.stride * seq};
  }
  // What the time step begins with, of h (part 0) or c (part 1).
  Matrix before(const Tensor& all, int64_t part, int64_t time) const {
    if (time > 0) return at(all, time - 1);
    return context.matrix(kept.begin[i]).row_range(part * lanes(), lanes());
  }
  const Tensor& drecurrent() const { return cell.separate_recurrent ? kept.recurrent[i] : kept.gates[i]; }

  void forward(int64_t time, Matrix product) const {
    math::CellStep step{.gates = at(kept.gates[i], time),
                        .recurrent = product,
                        .h_before = before(kept.y[i], 0, time),
                        .c_before = {},
                        .h = at(kept.y[i], time),
                        .c = {}};
    if (cell.has_cell_state) step.c_before = before(kept.c[i], 1, time), step.c = at(kept.c[i], time);
    cell.forward(step);
  }
  // `carry`: the gradient of h that comes from the step behind; for a separate product becomes a part of what
  // goes to the step before. `dh` is scratch.
  void backward(int64_t time, const Tensor& dy, Matrix dh, Matrix carry, Matrix dc) const {
    math::add(at(dy, time), carry, dh);
    math::CellGradient step{.gates = at(kept.gates[i], time),
                            .recurrent = {},
                            .h_before = before(kept.y[i], 0, time),
                            .h = at(kept.y[i], time),
                            .c_before = {},
                            .c = {},
                            .dh = dh,
                            .dh_before = carry,
                            .dc = dc};
    if (cell.has_cell_state) step.c_before = before(kept.c[i], 1, time), step.c = at(kept.c[i], time);
    if (cell.separate_recurrent) step.recurrent = at(kept.recurrent[i], time);
    cell.backward(step);
  }
};

}  // namespace

Tensor RecurrentLoop::pack(Context& context, Packing packing) const {
  const bool forward = packing == Packing::kForward;
  const Tensor packed = context.tensor(1, forward ? math::packed_nt_floats(weight_.rows, weight_.columns)
                                                  : math::packed_nn_floats(weight_.rows, weight_.columns));
  context.forward({.weight = weight_,
                   .work = [&](const BlockRows&, size_t) { return Work{.writes = {packed}}; },
                   .run =
                       [&](const BlockRows& rows, const WeightView& w, size_t, Workspace) {
                         float* to = context.matrix(packed).data;
                         if (forward)
                           math::pack_nt(w, rows.first, to);
                         else
                           math::pack_nn(w, rows.first, weight_.rows, to);
                       }});
  return packed;
}

void RecurrentLoop::forward(Context& context, int64_t seq, bool streams_weight, const Vectors& vectors,
                            RecurrentKept& kept) const {
  for (const Tensor& x : kept.x) {
    kept.y.push_back(context.tensor(x.rows, hidden()));
    if (cell_.has_cell_state) kept.c.push_back(context.tensor(x.rows, hidden()));
    if (cell_.separate_recurrent) kept.recurrent.push_back(context.tensor(x.rows, gate_columns()));
  }
  if (streams_weight) return stream_forward(context, seq, vectors, kept);
  const Tensor packed = pack(context, Packing::kForward);
  for (size_t i = 0; i < kept.x.size(); i++) hold_forward(context, seq, packed, vectors, kept, i);
}

std::vector<Tensor> RecurrentLoop::forward_writes(const RecurrentKept& kept, size_t i) const {
  std::vector<Tensor> writes{kept.gates[i], kept.y[i]};
  if (cell_.has_cell_state) writes.push_back(kept.c[i]);
  if (cell_.separate_recurrent) writes.push_back(kept.recurrent[i]);
  return writes;
}

void RecurrentLoop::hold_forward(Context& context, int64_t seq, const Tensor& packed, const Vectors& vectors,
                                 const RecurrentKept& kept, size_t i) const {
  const Window window{context, cell_, kept, seq, i};
  const size_t scratch =
      cell_.separate_recurrent ? 0 : size_t(window.lanes() * gate_columns()) * sizeof(float);
  context.compute(
      {.reads = {packed, vectors.values, kept.begin[i]},
       .writes = forward_writes(kept, i),
       .workspace_bytes = scratch,
       .flops = flops(kept.x[i].rows)},
      [&](Workspace workspace) {
        const float* bias = context.matrix(vectors.values).data + gate_columns();
        for (int64_t t = 0; t < seq; t++) {
          const Matrix product = cell_.separate_recurrent ? window.at(kept.recurrent[i], t)
                                                          : floats(workspace, window.lanes(), gate_columns());
          math::gemm_nt_packed(window.before(kept.y[i], 0, t), context.matrix(packed).data, bias, product);
          window.forward(t, product);
        }
      });
}

void RecurrentLoop::stream_forward(Context& context, int64_t seq, const Vectors& vectors,
                                   const RecurrentKept& kept) const {
  std::vector<Window> windows;
  std::vector<Tensor> products;  // of a time step, or of all
  for (size_t i = 0; i < kept.x.size(); i++) {
    windows.push_back({context, cell_, kept, seq, i});
    products.push_back(cell_.separate_recurrent ? kept.recurrent[i]
                                                : context.tensor(windows[i].lanes(), gate_columns()));
  }
  const auto product = [&](size_t i, int64_t t) {
    return cell_.separate_recurrent ? windows[i].at(products[i], t) : context.matrix(products[i]);
  };
  for (int64_t t = 0; t < seq; t++) {
    context.forward(
        {.weight = weight_,
         .items = windows.size(),
         .work =
             [&](const BlockRows& rows, size_t i) {
               return Work{
                   .reads = {t == 0 ? kept.begin[i] : kept.y[i], vectors.values},
                   .writes = {products[i]},
                   .workspace_bytes = math::gemm_nt_workspace_bytes(windows[i].lanes(), rows.count, hidden()),
                   .flops = 2.0 * double(windows[i].lanes()) * double(rows.count) * double(hidden())};
             },
         .run =
             [&](const BlockRows& rows, const WeightView& w, size_t i, Workspace workspace) {
               const float* bias = context.matrix(vectors.values).data + gate_columns() + rows.first;
               math::gemm_nt(windows[i].before(kept.y[i], 0, t), w, bias,
                             product(i, t).column_range(rows.first, rows.count), workspace);
             }});
    for (size_t i = 0; i < windows.size(); i++) {
      std::vector<Tensor> reads{products[i]};
      if (t == 0) reads.push_back(kept.begin[i]);
      context.compute({.reads = reads, .writes = forward_writes(kept, i)},
                      [&](Workspace) { windows[i].forward(t, product(i, t)); });
    }
  }
}

std::vector<Tensor> RecurrentLoop::backward(Context& context, int64_t seq, bool streams_weight,
                                            const RecurrentKept& kept, const std::vector<Tensor>& dy) const {
  if (streams_weight) {
    stream_backward(context, seq, kept, dy);
  } else {
    const Tensor packed = pack(context, Packing::kBackward);
    for (size_t i = 0; i < dy.size(); i++) hold_backward(context, seq, packed, kept, i, dy[i]);
  }
  return cell_.separate_recurrent ? kept.recurrent : kept.gates;
}

std::vector<Tensor> RecurrentLoop::backward_reads(const RecurrentKept& kept, size_t i,
                                                  const Tensor& dy) const {
  std::vector<Tensor> reads{kept.begin[i], kept.y[i], dy};
  if (cell_.has_cell_state) reads.push_back(kept.c[i]);
  return reads;
}

std::vector<Tensor> RecurrentLoop::backward_writes(const RecurrentKept& kept, size_t i) const {
  std::vector<Tensor> writes{kept.gates[i]};
  if (cell_.separate_recurrent) writes.push_back(kept.recurrent[i]);
  return writes;
}

void RecurrentLoop::hold_backward(Context& context, int64_t seq, const Tensor& packed,
                                  const RecurrentKept& kept, size_t i, const Tensor& dy) const {
  const Window window{context, cell_, kept, seq, i};
  const int64_t lanes = window.lanes();
  std::vector<Tensor> reads = backward_reads(kept, i, dy);
  reads.push_back(packed);
  context.compute({.reads = reads,
                   .writes = backward_writes(kept, i),
                   .workspace_bytes = size_t(3 * lanes * hidden()) * sizeof(float),
                   .flops = flops(kept.x[i].rows)},
                  [&](Workspace workspace) {
                    const Matrix all = floats(workspace, 3 * lanes, hidden());
                    fill_zero(all);
                    const Matrix dh = all.row_range(0, lanes), carry = all.row_range(lanes, lanes),
                                 dc = all.row_range(2 * lanes, lanes);
                    for (int64_t t = seq - 1; t >= 0; t--) {
                      window.backward(t, dy, dh, carry, dc);
                      if (t > 0)
                        math::gemm_nn_packed(window.at(window.drecurrent(), t), context.matrix(packed).data,
                                             carry, first_into_carry());
                    }
                  });
}

void RecurrentLoop::stream_backward(Context& context, int64_t seq, const RecurrentKept& kept,
                                    const std::vector<Tensor>& dy) const {
  std::vector<Window> windows;
  std::vector<Tensor> carries, dcs;  // [lanes, hidden]
  for (size_t i = 0; i < dy.size(); i++) {
    windows.push_back({context, cell_, kept, seq, i});
    carries.push_back(context.tensor(windows[i].lanes(), hidden()));
    dcs.push_back(context.tensor(windows[i].lanes(), hidden()));
  }
  for (int64_t t = seq - 1; t >= 0; t--) {
    for (size_t i = 0; i < windows.size(); i++) {
      std::vector<Tensor> writes = backward_writes(kept, i);
      writes.insert(writes.end(), {carries[i], dcs[i]});
      context.compute({.reads = backward_reads(kept, i, dy[i]),
                       .writes = writes,
                       .workspace_bytes = size_t(windows[i].lanes() * hidden()) * sizeof(float)},
                      [&](Workspace workspace) {
                        const Matrix carry = context.matrix(carries[i]), dc = context.matrix(dcs[i]);
                        if (t == seq - 1) fill_zero(carry), fill_zero(dc);
                        windows[i].backward(t, dy[i], floats(workspace, windows[i].lanes(), hidden()), carry,
                                            dc);
                      });
    }
    if (t == 0) return;
    context.forward(
        {.weight = weight_,
         .items = windows.size(),
         .order = stream::Order::kInOrder,
         .work =
             [&](const BlockRows& rows, size_t i) {
               return Work{
                   .reads = {windows[i].drecurrent()},
                   .writes = {carries[i]},
                   .workspace_bytes = math::gemm_nn_workspace_bytes(windows[i].lanes(), rows.count, hidden()),
                   .flops = 2.0 * double(windows[i].lanes()) * double(rows.count) * double(hidden())};
             },
         .run =
             [&](const BlockRows& rows, const WeightView& w, size_t i, Workspace workspace) {
               math::gemm_nn(windows[i].at(windows[i].drecurrent(), t).column_range(rows.first, rows.count),
                             w, context.matrix(carries[i]),
                             rows.first == 0 ? first_into_carry() : Accumulate::kYes, workspace);
             }});
  }
}

}  // namespace headrace::models

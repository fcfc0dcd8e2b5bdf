#include "models/embedding.h"

#include <algorithm>
#include <numeric>

#include <oneapi/tbb/blocked_range.h>

#include "engine/math/kernels.h"
#include "engine/math/parallel.h"

namespace headrace::models {

using math::Accumulate;
using math::Matrix;
using math::WeightView;
using stream::BlockRows;
using stream::Work;
using stream::Workspace;

namespace tbb = oneapi::tbb;

namespace {

constexpr size_t kTokensPerTask = 64;

void join_row(const WeightView& w, int64_t row, float* out) {
  const int64_t first = row * w.columns;
  math::join_planes(w.high + first, w.low ? w.low + first : nullptr, w.columns, out);
}

// x[t] = row ids[t] for the tokens whose row lies in the block.
void gather(const BlockRows& rows, const WeightView& w, std::span<const int32_t> ids, Matrix x) {
  math::parallel_ranges(tbb::blocked_range<size_t>(0, ids.size(), kTokensPerTask), [&](const auto& part) {
    for (size_t t = part.begin(); t < part.end(); t++)
      if (ids[t] >= rows.first && ids[t] < rows.first + rows.count)
        join_row(w, ids[t] - rows.first, x.row(int64_t(t)));
  });
}

// x[t] += position row t mod seq for the positions whose row lies in the block.
void add_positions(const BlockRows& rows, const WeightView& w, int64_t seq, Matrix x) {
  const int64_t end = std::min(rows.first + rows.count, seq);
  math::parallel_ranges(tbb::blocked_range<int64_t>(rows.first, end, 16), [&](const auto& part) {
    std::vector<float> row(size_t(x.columns));
    for (int64_t p = part.begin(); p < part.end(); p++) {
      join_row(w, p - rows.first, row.data());
      for (int64_t t = p; t < x.rows; t += seq)
        for (int64_t c = 0; c < x.columns; c++) x.row(t)[c] += row[size_t(c)];
    }
  });
}

// dw[p] (+)= sum over sequences, in order, of dx[sequence * s + p]; zero where no token stands at p.
void add_position_gradient(const BlockRows& rows, const Matrix& dx, int64_t seq, Matrix dw,
                           Accumulate accumulate) {
  math::parallel_ranges(tbb::blocked_range<int64_t>(0, rows.count, 16), [&](const auto& part) {
    for (int64_t r = part.begin(); r < part.end(); r++) {
      float* out = dw.row(r);
      if (accumulate == Accumulate::kNo) std::fill_n(out, dw.columns, 0.0F);
      if (rows.first + r >= seq) continue;
      for (int64_t t = rows.first + r; t < dx.rows; t += seq)
        for (int64_t c = 0; c < dw.columns; c++) out[c] += dx.row(t)[c];
    }
  });
}

}  // namespace

std::vector<uint32_t> Embedding::token_blocks(const train::MicroBatches& batch, train::Span span) const {
  const uint64_t block_rows = layout_.tensor(tokens_.tensor).block_rows;
  std::vector<bool> used(layout_.block_count(tokens_.tensor));
  for (size_t i = span.first; i < span.last; i++)
    for (const int32_t id : batch.inputs(i)) used[size_t(uint64_t(id) / block_rows)] = true;
  std::vector<uint32_t> blocks;
  for (uint32_t b = 0; b < used.size(); b++)
    if (used[b]) blocks.push_back(b);
  return blocks;
}

std::vector<uint32_t> Embedding::position_blocks(int64_t seq) const {
  const uint64_t block_rows = layout_.tensor(positions_->tensor).block_rows;
  std::vector<uint32_t> blocks((uint64_t(seq) + block_rows - 1) / block_rows);
  std::iota(blocks.begin(), blocks.end(), 0);
  return blocks;
}

std::vector<Tensor> Embedding::forward(Context& context, const train::MicroBatches& batch,
                                       train::Span span) const {
  std::vector<Tensor> x;
  for (size_t i = span.first; i < span.last; i++)
    x.push_back(context.tensor(batch.tokens(i), tokens_.columns));
  const auto work = [&](const BlockRows&, size_t i) { return Work{.writes = {x[i]}}; };
  const std::vector<uint32_t> blocks = token_blocks(batch, span);
  context.forward({.weight = tokens_,
                   .blocks = blocks,
                   .items = x.size(),
                   .work = work,
                   .run = [&](const BlockRows& rows, const WeightView& w, size_t i, Workspace) {
                     gather(rows, w, batch.inputs(span.first + i), context.matrix(x[i]));
                   }});
  if (!positions_) return x;
  const std::vector<uint32_t> rows_used = position_blocks(batch.seq());
  context.forward({.weight = *positions_,
                   .blocks = rows_used,
                   .items = x.size(),
                   .work = work,
                   .run = [&](const BlockRows& rows, const WeightView& w, size_t i, Workspace) {
                     add_positions(rows, w, batch.seq(), context.matrix(x[i]));
                   }});
  return x;
}

void Embedding::backward(Context& context, const train::MicroBatches& batch, train::Span span,
                         const std::vector<Tensor>& dx) const {
  const auto work = [&](const BlockRows&, size_t i) { return Work{.reads = {dx[i]}}; };
  if (positions_)
    context.backward({.weight = *positions_,
                      .items = dx.size(),
                      .reads_weight = false,
                      .work = work,
                      .run = [&](const BlockRows& rows, const WeightView&, size_t i, Matrix dw,
                                 Accumulate accumulate, Workspace) {
                        add_position_gradient(rows, context.matrix(dx[i]), batch.seq(), dw, accumulate);
                      }});
  const std::vector<uint32_t> blocks = positions_ ? token_blocks(batch, span) : std::vector<uint32_t>();
  context.backward({.weight = tokens_,
                    .blocks = blocks,
                    .items = dx.size(),
                    .reads_weight = false,
                    .work = work,
                    .run = [&](const BlockRows& rows, const WeightView&, size_t i, Matrix dw,
                               Accumulate accumulate, Workspace) {
                      if (accumulate == Accumulate::kNo)
                        for (int64_t r = 0; r < dw.rows; r++) std::fill_n(dw.row(r), dw.columns, 0.0F);
                      math::embed_backward(context.matrix(dx[i]), batch.inputs(span.first + i), rows.first,
                                           dw);
                    }});
}

}  // namespace headrace::models

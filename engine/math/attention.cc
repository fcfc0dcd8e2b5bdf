#include <oneapi/tbb/task_arena.h>

#include "engine/math/attention_tiles.h"
#include "engine/math/kernels.h"
#include "engine/math/parallel.h"

namespace headrace::math {
namespace {

namespace tbb = oneapi::tbb;
using namespace attention_tiles;

size_t slot_bytes(AttentionShape shape) {
  return sizeof(float) * static_cast<size_t>(scratch_floats(shape.head_size));
}

// The calling thread's part of the workspace. Tasks do not wait for others, so that a thread is inside one at
// a time.
float* slot(AttentionShape shape, std::span<std::byte> workspace) {
  const auto index = static_cast<size_t>(std::max(0, tbb::this_task_arena::current_thread_index()));
  HEADRACE_CHECK((index + 1) * slot_bytes(shape) <= workspace.size(), "attention workspace is too small");
  return reinterpret_cast<float*>(workspace.data() + index * slot_bytes(shape));
}

// Matrices of sequence `s` and head `h`: qkv's three parts, and one part of a matrix [tokens, heads *
// head_size].
template <class M>
M part(M m, AttentionShape shape, int64_t s, int64_t column) {
  return m.row_range(s * shape.sequence, shape.sequence).column_range(column, shape.head_size);
}
Head head(ConstMatrix qkv, AttentionShape shape, int64_t s, int64_t h) {
  const int64_t width = shape.heads * shape.head_size, column = h * shape.head_size;
  return {part(qkv, shape, s, column), part(qkv, shape, s, width + column),
          part(qkv, shape, s, 2 * width + column)};
}
template <class M>
M head_column(M log_sum_exp, AttentionShape shape, int64_t s, int64_t h) {
  return log_sum_exp.row_range(s * shape.sequence, shape.sequence).column_range(h, 1);
}

void check(ConstMatrix qkv, AttentionShape shape, ConstMatrix out, ConstMatrix log_sum_exp) {
  const int64_t width = shape.heads * shape.head_size;
  HEADRACE_CHECK(shape.head_size >= 1 && shape.head_size <= kMaxHeadSize);
  HEADRACE_CHECK(shape.sequence >= 1 && qkv.rows % shape.sequence == 0);
  HEADRACE_CHECK(qkv.columns == 3 * width && out.columns == width && log_sum_exp.columns == shape.heads);
  HEADRACE_CHECK(out.rows == qkv.rows && log_sum_exp.rows == qkv.rows);
}

}  // namespace

void attention(ConstMatrix qkv, AttentionShape shape, Matrix out, Matrix log_sum_exp,
               std::span<std::byte> workspace) {
  check(qkv, shape, out, log_sum_exp);
  const int64_t tiles = (shape.sequence + kQueries - 1) / kQueries;
  const int64_t heads = qkv.rows / shape.sequence * shape.heads;
  parallel_blocks(heads * tiles, 1, [&](int64_t task, int64_t) {
    // The last tiles of queries see most keys: they start first.
    float* const scratch = slot(shape, workspace);
    const SerialOrder owner(scratch);
    const int64_t tile = tiles - 1 - task / heads, s = task % heads / shape.heads, h = task % shape.heads;
    forward({.head = head(qkv, shape, s, h),
             .first_query = tile * kQueries,
             .out = part(out, shape, s, h * shape.head_size),
             .log_sum_exp = head_column(log_sum_exp, shape, s, h),
             .scratch = scratch});
  });
}

void attention_backward(ConstMatrix qkv, AttentionShape shape, ConstMatrix out, ConstMatrix log_sum_exp,
                        ConstMatrix dout, Matrix dqkv, std::span<std::byte> workspace) {
  check(qkv, shape, out, log_sum_exp);
  HEADRACE_CHECK(dout.rows == qkv.rows && dout.columns == out.columns);
  HEADRACE_CHECK(dqkv.rows == qkv.rows && dqkv.columns == qkv.columns);
  const int64_t width = shape.heads * shape.head_size;
  // A task is a whole head: a key's gradient sums over queries, a query's over keys, and both in a fixed
  // order.
  parallel_blocks(qkv.rows / shape.sequence * shape.heads, 1, [&](int64_t task, int64_t) {
    float* const scratch = slot(shape, workspace);
    const SerialOrder owner(scratch);
    const int64_t s = task / shape.heads, h = task % shape.heads, column = h * shape.head_size;
    backward({.head = head(qkv, shape, s, h),
              .out = part(out, shape, s, column),
              .log_sum_exp = head_column(log_sum_exp, shape, s, h),
              .dout = part(dout, shape, s, column),
              .dqueries = part(dqkv, shape, s, column),
              .dkeys = part(dqkv, shape, s, width + column),
              .dvalues = part(dqkv, shape, s, 2 * width + column),
              .scratch = scratch});
  });
}

size_t attention_workspace_bytes(AttentionShape shape) {
  return slot_bytes(shape) * static_cast<size_t>(tbb::this_task_arena::max_concurrency());
}

}  // namespace headrace::math

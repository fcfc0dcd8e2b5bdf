// What attention.cc hands to a task of attention: one head of one sequence, and scratch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/math/views.h"

namespace headrace::math::attention_tiles {

// Of a tile. Sums are cut here, so that these are part of the results' bits.
inline constexpr int64_t kQueries = 128, kKeys = 128;
inline constexpr int64_t kMaxHeadSize = 256;

// Floats from one packed row to the next: a few sizes known to the compiler, an odd number of cache lines, so
// that consecutive rows fall into different sets.
inline int64_t packed_stride(int64_t head_size) {
  return head_size <= 64 ? 80 : head_size <= 128 ? 144 : 272;
}

struct Head {
  ConstMatrix queries, keys, values;  // [sequence, head_size]
};

// Queries [first_query, first_query + kQueries) of a head.
struct ForwardTask {
  Head head;
  int64_t first_query;
  Matrix out;          // [sequence, head_size]
  Matrix log_sum_exp;  // [sequence, 1]
  float* scratch;      // forward_scratch_floats(head_size)
};

// A whole head.
struct BackwardTask {
  Head head;
  ConstMatrix out, log_sum_exp, dout;
  Matrix dqueries, dkeys, dvalues;
  float* scratch;  // backward_scratch_floats(head_size)
};

// Two packed tiles, the sums, the transposed queries, a strip of scores (32 queries at most), four rows.
inline int64_t forward_scratch_floats(int64_t head_size) {
  return 3 * kKeys * packed_stride(head_size) + kQueries * head_size + kKeys * 32 + 4 * kQueries;
}
// Four packed tiles, queries and dout transposed, all strips of scores and of their gradients, two rows.
inline int64_t backward_scratch_floats(int64_t head_size) {
  return 4 * kKeys * packed_stride(head_size) + 2 * kQueries * head_size + 2 * kKeys * kQueries +
         2 * kQueries;
}
inline int64_t scratch_floats(int64_t head_size) {
  const int64_t floats = std::max(forward_scratch_floats(head_size), backward_scratch_floats(head_size));
  return (floats + 15) / 16 * 16;
}

void forward(const ForwardTask& task);
void backward(const BackwardTask& task);

}  // namespace headrace::math::attention_tiles

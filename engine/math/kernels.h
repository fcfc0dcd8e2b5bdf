// The kernels of a transformer beside the matrix products, forward beside backward. Plain functions over
// views; work is spread over the calling oneTBB arena; nothing is allocated (scratch is passed in); the bits
// depend on nothing but the operands: not on threads, tiles, micro-batches or the vector width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/math/views.h"

namespace headrace::math {

// --- Layer norm over the columns of x [tokens, n] (Ba et al. 2016; epsilon inside the root) ---
// y = (x - mean) / sqrt(variance + epsilon) * weight + bias; weight, bias [n].
void layer_norm(ConstMatrix x, const float* weight, const float* bias, float epsilon, Matrix y);
// dx (+)= gradient through the norm of dy [tokens, n] (add = true adds to what dx holds: the residual
// branch); dweight, dbias (+)= sums over tokens in panels as gemm_tn's (256 tokens, starting anew at each
// multiple of `sequence`), accumulate = false starts from zero. Mean and deviation are computed again from x.
void layer_norm_backward(ConstMatrix x, const float* weight, float epsilon, ConstMatrix dy, int64_t sequence,
                         Matrix dx, bool add, float* dweight, float* dbias, bool accumulate,
                         std::span<std::byte> workspace);
size_t layer_norm_backward_workspace_bytes(int64_t tokens, int64_t n, int64_t sequence);

// --- GELU, the tanh approximation (Hendrycks and Gimpel 2016; GPT-2's gelu_new) ---
void gelu(ConstMatrix x, Matrix y);
void gelu_backward(ConstMatrix x, ConstMatrix dy, Matrix dx);  // dx = dy * gelu'(x); dx may be dy

// y = a + b, elementwise; y may be a or b.
void add(ConstMatrix a, ConstMatrix b, Matrix y);

// --- Causal self-attention, tiled over keys (Dao et al. 2022): memory linear in the sequence ---
struct AttentionShape {
  int64_t sequence = 0;  // tokens of a sequence; the rows of all matrices are whole sequences
  int64_t heads = 0, head_size = 0;
};
// qkv [tokens, 3 * heads * head_size] (queries, keys, values side by side; heads within each), scale
// 1/sqrt(head_size); out [tokens, heads * head_size]; log_sum_exp [tokens, heads] for the backward pass.
void attention(ConstMatrix qkv, AttentionShape shape, Matrix out, Matrix log_sum_exp,
               std::span<std::byte> workspace);
void attention_backward(ConstMatrix qkv, AttentionShape shape, ConstMatrix out, ConstMatrix log_sum_exp,
                        ConstMatrix dout, Matrix dqkv, std::span<std::byte> workspace);
size_t attention_workspace_bytes(AttentionShape shape);  // for either pass, any number of tokens
                                                         // and max_concurrency() threads

// --- Embedding ---
// x[t] = token row + position row. `row_of` gives the weight row of token ids[t] (rows may lie in several
// blocks): the caller passes, per token, pointers to the planes of its row.
struct RowPlanes {
  const uint16_t* high = nullptr;
  const uint16_t* low = nullptr;  // null: high plane alone
};
void embed(std::span<const RowPlanes> token_rows, WeightView positions, int64_t sequence, Matrix x);
// Adds dx[t] to gradient row ids[t] - first_row for all tokens whose id lies in [first_row, first_row +
// dw.rows), in token order.
void embed_backward(ConstMatrix dx, std::span<const int32_t> ids, int64_t first_row, Matrix dw);
// dposition[p] (+)= sum over sequences, in order, of dx[sequence * s + p]. dposition [sequence, n].
void position_backward(ConstMatrix dx, int64_t sequence, Matrix dposition, bool accumulate);

// --- Cross entropy with the softmax streamed over blocks of the vocabulary ---
// Running state of a token: the largest logit so far, the sum of exp(logit - largest), the target's logit.
struct SoftmaxState {
  float largest, sum, target;
};
// Starts the states of a batch.
void softmax_start(std::span<SoftmaxState> states);
// Folds logits [tokens, rows] of vocabulary entries [first, first + rows) into the states. The vocabulary is
// folded in panels of 256 entries counted from entry 0, in order; first is a multiple of 256.
void softmax_fold(ConstMatrix logits, int64_t first, std::span<const int32_t> targets,
                  std::span<SoftmaxState> states);
// Sum over tokens of -log softmax(target), in token order, as a double; tokens whose target is negative
// count nothing.
double cross_entropy_sum(std::span<const SoftmaxState> states, std::span<const int32_t> targets);
// logits <- scale * (softmax(logits) - one_hot(target)), in place; zero where the target is negative.
void cross_entropy_backward(Matrix logits, int64_t first, std::span<const int32_t> targets,
                            std::span<const SoftmaxState> states, float scale);

// --- Planes of exact float32 weights ---
// high = (bits + 0x8000) >> 16 (to nearest, ties away from zero), low = bits & 0xffff, so that bits = (high
// << 16) + int16(low). Exact for every finite weight and infinity; values that round up to infinity in the
// high plane (above the largest bfloat16) still join exactly. A NaN joins to the same bits.
void split_planes(const float* weight, int64_t n, uint16_t* high, uint16_t* low);
void join_planes(const uint16_t* high, const uint16_t* low, int64_t n,
                 float* weight);  // low null: high alone

// Sum of squares of n contiguous values as a double, in a fixed order that depends on n alone.
double sum_of_squares(const float* values, int64_t n);
bool all_finite(const float* values, int64_t n);

}  // namespace headrace::math

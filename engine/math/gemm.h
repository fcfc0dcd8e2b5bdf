// Matrix products whose bits depend on nothing but their operands.
//
// Every output element is a sum over panels of the inner dimension, added in index order; within a panel of
// at most kPanel terms it is one chain of fused multiply-adds, in index order, starting from zero. Tiles,
// threads, vector width and the cutting of a weight into blocks (whole panels) change nothing. Work is spread
// over the calling oneTBB arena; a task takes at most about 0.4 ms.
//
// `workspace` is scratch of at least the bytes that the matching function returns, 64-byte aligned, contents
// undefined; nothing else is allocated. Outputs must not overlap inputs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/math/views.h"

namespace headrace::math {

inline constexpr int64_t kPanel = 256;  // terms of one chain of multiply-adds

enum class Accumulate : bool { kNo, kYes };  // kYes adds each panel to what the output holds

// y = x w^T + bias: x [tokens, in], w [out, in], bias [out] or null, y [tokens, out]. Panels lie in `in`.
// The bias is added after the last panel.
void gemm_nt(ConstMatrix x, WeightView w, const float* bias, Matrix y, std::span<std::byte> workspace);
size_t gemm_nt_workspace_bytes(int64_t tokens, int64_t out, int64_t in);

// dx (+)= dy w: dy [tokens, out], w [out, in], dx [tokens, in]. Panels lie in `out`, starting at w's first
// row.
void gemm_nn(ConstMatrix dy, WeightView w, Matrix dx, Accumulate accumulate, std::span<std::byte> workspace);
size_t gemm_nn_workspace_bytes(int64_t tokens, int64_t out, int64_t in);

// dw (+)= dy^T x: dy [tokens, out], x [tokens, in], dw [out, in]. Panels lie in tokens, starting anew at
// every multiple of `sequence` (tokens of a sequence; the last one may be shorter).
void gemm_tn(ConstMatrix dy, ConstMatrix x, int64_t sequence, Matrix dw, Accumulate accumulate,
             std::span<std::byte> workspace);
size_t gemm_tn_workspace_bytes(int64_t tokens, int64_t out, int64_t in);

// --- Products of one weight with many small matrices, one after the other ---
// The weight is packed once, a block of its rows at a time (`w` holds rows [first_row, ...) of `out`; whole
// panels), and used any number of times; the results have the bits of gemm_nt and gemm_nn. `packed` is
// 64-byte aligned.
int64_t packed_nt_floats(int64_t out, int64_t in);
void pack_nt(WeightView w, int64_t first_row, float* packed);
void gemm_nt_packed(ConstMatrix x, const float* packed, const float* bias, Matrix y);
int64_t packed_nn_floats(int64_t out, int64_t in);
void pack_nn(WeightView w, int64_t first_row, int64_t out, float* packed);
void gemm_nn_packed(ConstMatrix dy, const float* packed, Matrix dx, Accumulate accumulate);

// db (+)= column sums of dy [tokens, out]: one chain of additions a panel, panels (as in gemm_tn) in order.
void column_sums(ConstMatrix dy, int64_t sequence, float* db, Accumulate accumulate);

}  // namespace headrace::math

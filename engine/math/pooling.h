// Pooling of graphs: rows of nodes become rows of graphs, or fewer nodes. Plain functions over views; work is
// spread over the calling oneTBB arena, nothing is allocated, and the bits depend on nothing but the
// operands.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/math/sparse.h"
#include "engine/math/views.h"

namespace headrace::math {

// --- A graph's rows into one ---
enum class Pooling : uint8_t { kMean, kMax, kSum };
// y[g] = mean, largest or sum of x's rows [first[g], first[g + 1]), of which there is at least one; added in
// order, in chains of at most 256. x [rows, n], y [graphs, n].
void pool(Pooling kind, ConstMatrix x, std::span<const int64_t> first, Matrix y);
// dx from dy. Of a largest value the first row that has it gets the gradient.
void pool_backward(Pooling kind, ConstMatrix x, std::span<const int64_t> first, ConstMatrix dy, Matrix dx);

// --- Top-k pooling (Gao and Ji 2019; Cangea et al. 2018) ---
// Nodes are scored by scores = x p / |p|, p [n]; x [rows, n], scores [rows].
void node_scores(ConstMatrix x, const float* p, float* scores);
// Of each graph g the kept_first[g + 1] - kept_first[g] nodes with the highest scores (of equal ones those
// that come first; a NaN is lower than all), in the order of the nodes. `order`: scratch of as many as
// scores.
void choose_nodes(const float* scores, std::span<const int64_t> first, std::span<const int64_t> kept_first,
                  std::span<int32_t> order, std::span<int32_t> chosen);
// y[i] = x[c] tanh(scores[c]) with c = chosen[i].
void gate_nodes(ConstMatrix x, const float* scores, std::span<const int32_t> chosen, Matrix y);
// dx, zero but for chosen rows, through the gate and the score; dp += the gradient of p, in chains of at most
// 256 nodes. `slopes`: scratch of as many floats as chosen.
void gate_nodes_backward(ConstMatrix x, const float* p, const float* scores, std::span<const int32_t> chosen,
                         ConstMatrix dy, Matrix dx, float* dp, std::span<float> slopes);

// The part of `a` between chosen nodes, with the scale of its own degrees, in memory that is handed in.
size_t induced_bytes(int64_t rows, int64_t kept, int64_t terms);  // terms: a.first[rows]
void induce(const Adjacency& a, std::span<const int32_t> chosen, std::byte* memory);
Adjacency induced(const std::byte* memory, int64_t kept);

}  // namespace headrace::math

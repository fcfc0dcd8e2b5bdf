// The register kernels and packing routines under gemm.h, for the vector unit of the machine we run on.
//
// A product is cut into register tiles of at most `tile_rows` x `tile_columns` outputs. One operand, the
// vector operand, is read `tile_columns` floats at a time from strips of [depth][tile_columns]; the other,
// the broadcast operand, one float at a time. Which is which differs per product, see gemm.cc. A tile may
// take several panels, one after the other, before it touches the output. All functions work on the calling
// thread and keep less than 136 KiB on its stack.
#pragma once

#include <array>
#include <cstdint>

#include "engine/math/views.h"

namespace headrace::math::gemm {

// Largest register tile of any target, for sizes that must not depend on the target.
inline constexpr int64_t kMaxTileRows = 14;
inline constexpr int64_t kMaxTileColumns = 32;

// Most panels that a tile takes at once.
inline constexpr int64_t kMaxPanels = 4;

// Consecutive panels of the inner dimension: how many terms each has.
struct PanelDepths {
  int64_t count = 0;
  std::array<int64_t, kMaxPanels> depth = {};

  int64_t total() const { return depth[0] + depth[1] + depth[2] + depth[3]; }
};
static_assert(kMaxPanels == 4);

// What a tile does with the first of its panels; the others are always added.
enum class Write : bool { kStore, kAdd };

// `total` things cut into the least number of nearly equal parts of at most `most`.
struct Parts {
  int64_t total, count;

  static Parts of_at_most(int64_t total, int64_t most) { return {total, (total + most - 1) / most}; }
  int64_t first(int64_t part) const { return part * total / count; }
  int64_t size(int64_t part) const { return first(part + 1) - first(part); }
};

// One panel of c (+)= a b (+ bias), b packed.
struct RowsTask {
  ConstMatrix a;         // [rows, depth], depth <= kPanel
  ConstMatrix next_a;    // what the thread will probably read next, or no rows: prefetched meanwhile
  const float* strips;   // b's panel in the first strip: [depth][tile_columns]
  int64_t strip_stride;  // floats from one strip to the next
  const float* bias;     // [columns of c], added after the panel, or null
  Matrix c;              // [rows, columns]
  Write write;
};

// Some panels of c (+)= a^T b, a packed.
struct ColumnsTask {
  PanelDepths panels;
  const float* strips;   // a's panels in strip 0: [depth of all panels][tile_rows]
  int64_t strip_stride;  // floats from one strip to the next
  Parts rows;            // how all of a's columns are cut into strips
  ConstMatrix b;         // [depth of all panels, at most tile_columns]
  ConstMatrix next_b;    // as next_a
  Matrix c;              // [rows.total, columns of b]
  Write write;
};

struct Kernels {
  int64_t tile_rows, tile_columns;

  // w[first_row + j][first_column + k] to strip[k][j] for j < rows <= tile_columns, zeros to j =
  // tile_columns.
  void (*pack_transposed)(const WeightView& w, int64_t first_row, int64_t rows, int64_t first_column,
                          int64_t depth, float* strip);
  // w[row][first_column + j] to strips[j / tile_columns][j % tile_columns], zeros to the end of the last
  // strip.
  void (*pack_row)(const WeightView& w, int64_t row, int64_t first_column, int64_t columns, float* strips,
                   int64_t strip_stride);
  // a[k][rows.first(s) + j] to strips[s][k][j].
  void (*pack_broadcast)(ConstMatrix a, Parts rows, float* strips, int64_t strip_stride);

  void (*multiply_rows)(const RowsTask& task);
  void (*multiply_columns)(const ColumnsTask& task);
};

// Those of the best target that this processor (and Highway's test hooks) allow.
const Kernels& kernels();

}  // namespace headrace::math::gemm

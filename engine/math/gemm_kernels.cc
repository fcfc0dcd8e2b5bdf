#include "engine/math/gemm_kernels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "engine/math/gemm.h"

// Only targets with a fused multiply-add give the promised bits; where there is none the scalar code below
// asks std::fma. EMU128 is off because its MulAdd rounds twice (and g++ 12 builds without it anyway).
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4)
#define HWY_BROKEN_EMU128 1

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/gemm_kernels.cc"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace headrace::math::gemm {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using D = hn::ScalableTag<float>;
using V = hn::Vec<D>;

constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
constexpr int kTileColumns = 2 * kLanes;
// As many accumulators as leave registers for two vectors and a broadcast.
constexpr int kTileRows = HWY_TARGET <= HWY_AVX3 ? 14 : 6;
static_assert(kTileRows <= kMaxTileRows && kTileColumns <= kMaxTileColumns);

HWY_INLINE V fused_multiply_add(V a, V b, V c) {
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(D(), std::fma(hn::GetLane(a), hn::GetLane(b), hn::GetLane(c)));
#else
  return hn::MulAdd(a, b, c);
#endif
}

// Where element (row, k) of the broadcast operand lies.
struct RowMajor {
  static constexpr int64_t kRowStep = kPanel, kDepthStep = 1;
  static constexpr bool kOutputsLate = false;  // when outputs are prefetched
};
struct DepthMajor {
  static constexpr int64_t kRowStep = 1, kDepthStep = kTileRows;
  static constexpr bool kOutputsLate = true;
};

// The outputs of a tile.
struct TileOutput {
  Write write;
  const float* bias;  // or null
  int64_t columns;    // that exist
  float* c;
  int64_t stride;
};

// to = from + tile (+ bias), where from and bias may be null.
HWY_INLINE void add_row(V left, V right, const float* from, const float* bias, float* to) {
  const D d;
  if (from != nullptr) {
    left = hn::Add(hn::LoadU(d, from), left);
    right = hn::Add(hn::LoadU(d, from + kLanes), right);
  }
  if (bias != nullptr) {
    left = hn::Add(left, hn::LoadU(d, bias));
    right = hn::Add(right, hn::LoadU(d, bias + kLanes));
  }
  hn::StoreU(left, d, to);
  hn::StoreU(right, d, to + kLanes);
}

// Between the sums of a tile and the columns of it that exist.
HWY_NOINLINE void load_columns(const TileOutput& output, int64_t rows, float* sums) {
  for (int64_t r = 0; r < rows; r++) {
    std::copy_n(output.c + r * output.stride, output.columns, sums + r * kTileColumns);
  }
}
HWY_NOINLINE void store_columns(const float* sums, int64_t rows, const TileOutput& output) {
  for (int64_t r = 0; r < rows; r++, sums += kTileColumns) {
    float* c = output.c + r * output.stride;
    for (int64_t j = 0; j < output.columns; j++) {
      c[j] = output.bias != nullptr ? sums[j] + output.bias[j] : sums[j];
    }
  }
}

constexpr int64_t kTermsAhead = 16;        // that are on their way to the first-level cache
constexpr int64_t kChunk = 16;             // terms between two rounds of prefetches
constexpr int64_t kOutputChunksAhead = 2;  // from the last prefetch of outputs to the end of the panel
constexpr int64_t kLine = 16;              // floats of a cache line

// Cache lines that will be read after this tile: four a chunk, at line, line + near, line + far and
// line + near + far; then `line` advances.
struct Ahead {
  const float* line;
  int64_t near, far, advance;
};

// To the second-level cache: the first is full of what this tile needs.
HWY_INLINE void prefetch_far(const float* line) { __builtin_prefetch(line, 0, 2); }

HWY_INLINE void prefetch(Ahead& ahead) {
  prefetch_far(ahead.line);
  prefetch_far(ahead.line + ahead.near);
  prefetch_far(ahead.line + ahead.far);
  prefetch_far(ahead.line + ahead.near + ahead.far);
  ahead.line += ahead.advance;
}

// One register tile of some panels: for each output and panel a chain of fused multiply-adds over k, from
// zero. The panels are added up in `sums`, in the first-level cache.
template <int kRows, class Layout>
HWY_NOINLINE void multiply_tile(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b,
                                const PanelDepths& panels, Ahead ahead, const TileOutput& output) {
  const D d;
  HWY_ALIGN_MAX float sums[kRows * kTileColumns];
  const bool whole = output.columns == kTileColumns, add = output.write == Write::kAdd;
  float* const c = output.c;
  const int64_t stride = output.stride;
  if (!whole) std::fill_n(sums, kRows * kTileColumns, 0.0f);
  if (!whole && add) load_columns(output, kRows, sums);
  for (int64_t panel = 0; panel < panels.count; panel++) {
    const bool first = panel == 0, last = panel + 1 == panels.count, touched = last || (first && add);
    V left[kRows], right[kRows];
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; r++) left[r] = right[r] = hn::Zero(d);
    for (int64_t begin = 0; begin < panels.depth[panel]; begin += kChunk) {
      // Two rows of outputs a chunk, because few lines can be on their way at once, and early enough to
      // arrive; where both operands stream past they would be displaced again, so there late.
      const int64_t chunk = begin / kChunk, chunks_left = (panels.depth[panel] - begin - 1) / kChunk;
      const int64_t row = 2 * (Layout::kOutputsLate ? chunks_left - kOutputChunksAhead : chunk);
      if (touched && row >= 0 && row < kRows) {
        for (int64_t r = row; r < row + 2; r++) {
          hwy::Prefetch(c + r * stride);
          hwy::Prefetch(c + r * stride + kTileColumns - 1);
        }
      }
      prefetch(ahead);
      const int64_t terms = std::min(kChunk, panels.depth[panel] - begin);
      for (int64_t k = 0; k < terms; k++) {
        hwy::Prefetch(b + kTermsAhead * kTileColumns);
        hwy::Prefetch(b + kTermsAhead * kTileColumns + kLanes);
        if constexpr (Layout::kDepthStep > 1) hwy::Prefetch(a + kTermsAhead * Layout::kDepthStep);
        const V b_left = hn::Load(d, b), b_right = hn::Load(d, b + kLanes);
        HWY_UNROLL(16)
        for (int r = 0; r < kRows; r++) {
          const V broadcast = hn::Set(d, a[r * Layout::kRowStep]);
          left[r] = fused_multiply_add(broadcast, b_left, left[r]);
          right[r] = fused_multiply_add(broadcast, b_right, right[r]);
        }
        a += Layout::kDepthStep;
        b += kTileColumns;
      }
    }
    const bool from_c = first && whole, to_c = last && whole;
    const float* from = first && !add ? nullptr : from_c ? c : sums;
    const float* bias = to_c ? output.bias : nullptr;
    float* to = to_c ? c : sums;
    const int64_t from_stride = from == nullptr ? 0 : from_c ? stride : kTileColumns;
    const int64_t to_stride = to_c ? stride : kTileColumns;
    HWY_UNROLL(16)
    for (int r = 0; r < kRows; r++) {
      add_row(left[r], right[r], from, bias, to);
      from += from_stride;
      to += to_stride;
    }
  }
  if (!whole) store_columns(sums, kRows, output);
}

// The kernel for each number of rows: row_kernels<Layout>[rows - 1].
using TileFunction = void (*)(const float*, const float*, const PanelDepths&, Ahead, const TileOutput&);
template <class Layout, int... kRows>
constexpr std::array<TileFunction, sizeof...(kRows)> tile_functions(std::integer_sequence<int, kRows...>) {
  return {&multiply_tile<kRows + 1, Layout>...};
}
template <class Layout>
constexpr auto kTileFunctions = tile_functions<Layout>(std::make_integer_sequence<int, kTileRows>());

void multiply_rows(const RowsTask& task) {
  // A contiguous copy: rows far apart would compete for few cache sets, and the kernel's addresses are
  // constants.
  HWY_ALIGN_MAX float a[kTileRows * RowMajor::kRowStep];
  const int64_t depth = task.a.columns;
  const PanelDepths panels{.count = 1, .depth = {depth}};
  const Parts parts = Parts::of_at_most(task.a.rows, kTileRows);
  for (int64_t part = 0; part < parts.count; part++) {
    const int64_t first = parts.first(part), rows = parts.size(part);
    for (int64_t r = 0; r < rows; r++) {
      std::memcpy(a + r * RowMajor::kRowStep, task.a.row(first + r), sizeof(float) * depth);
    }
    const ConstMatrix next =
        part + 1 < parts.count ? task.a.row_range(first + rows, parts.size(part + 1)) : task.next_a;
    const float* strip = task.strips;
    for (int64_t j = 0; j < task.c.columns; j += kTileColumns, strip += task.strip_stride) {
      const int64_t next_row = 4 * (j / kTileColumns);  // four rows a tile
      const Ahead ahead = next_row < std::min<int64_t>(next.rows, kTileRows)
                              ? Ahead{next.row(next_row), next.stride, 2 * next.stride, kLine}
                              : Ahead{strip, 0, 0, 0};
      kTileFunctions<RowMajor>[rows - 1](
          a, strip, panels, ahead,
          {task.write, task.bias != nullptr ? task.bias + j : nullptr,
           std::min<int64_t>(kTileColumns, task.c.columns - j), task.c.row(first) + j, task.c.stride});
    }
  }
}

void multiply_columns(const ColumnsTask& task) {
  HWY_ALIGN_MAX float b[kMaxPanels * kPanel * kTileColumns];
  const int64_t depth = task.b.rows, columns = task.b.columns;
  if (columns < kTileColumns) std::memset(b, 0, sizeof(float) * depth * kTileColumns);
  for (int64_t k = 0; k < depth; k++) {
    float* row = b + k * kTileColumns;
    if (columns == kTileColumns) {
      std::memcpy(row, task.b.row(k), sizeof(float) * kTileColumns);
    } else {
      std::memcpy(row, task.b.row(k), sizeof(float) * columns);
    }
  }
  for (int64_t s = 0; s < task.rows.count; s++) {
    const int64_t next_row = s * (2 * depth / kChunk);  // two rows a chunk
    const Ahead ahead = next_row < task.next_b.rows ? Ahead{task.next_b.row(next_row), kTileColumns - 1,
                                                            task.next_b.stride, 2 * task.next_b.stride}
                                                    : Ahead{b, 0, 0, 0};
    kTileFunctions<DepthMajor>[task.rows.size(s) - 1](
        task.strips + s * task.strip_stride, b, task.panels, ahead,
        {task.write, nullptr, columns, task.c.row(task.rows.first(s)), task.c.stride});
  }
}

// The float32 values of `count` elements from `offset` on.
HWY_INLINE void expand(const WeightView& w, int64_t offset, int64_t count, float* HWY_RESTRICT to) {
  const D d;
  const hn::RebindToUnsigned<D> du;
  const hn::RebindToSigned<D> di;
  const hn::Rebind<uint16_t, D> dh;
  const hn::Rebind<int16_t, D> dl;
  const uint16_t* high = w.high + offset;
  const int16_t* low = w.low != nullptr ? reinterpret_cast<const int16_t*>(w.low) + offset : nullptr;
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    auto bits = hn::ShiftLeft<16>(hn::PromoteTo(du, hn::LoadU(dh, high + i)));
    if (low != nullptr) {
      bits = hn::Add(bits, hn::BitCast(du, hn::PromoteTo(di, hn::LoadU(dl, low + i))));
    }
    hn::StoreU(hn::BitCast(d, bits), d, to + i);
  }
  for (; i < count; i++) {
    uint32_t bits = uint32_t{high[i]} << 16;
    if (low != nullptr) bits += static_cast<uint32_t>(int32_t{low[i]});
    std::memcpy(to + i, &bits, sizeof(bits));
  }
}

constexpr int64_t kWeightsLine = 32;  // weights of a plane in a cache line

// The hardware foresees only longer runs than the packing routines read from a row.
HWY_INLINE void prefetch_weights(const WeightView& w, int64_t offset) {
  hwy::Prefetch(w.high + offset);
  if (w.low != nullptr) hwy::Prefetch(w.low + offset);
}

#if HWY_TARGET != HWY_SCALAR
// Lane 4 * b + i is from[(4 * b) * stride + i]: four floats from every fourth row.
template <class D2>
HWY_INLINE hn::Vec<D2> load_every_fourth_row(D2 d, const float* from, int64_t stride) {
  if constexpr (hn::MaxLanes(D2()) == 4) {
    return hn::Load(d, from);
  } else {
    const hn::Half<D2> half;
    const int64_t rows = static_cast<int64_t>(hn::MaxLanes(half));
    return hn::Combine(d, load_every_fourth_row(half, from + rows * stride, stride),
                       load_every_fourth_row(half, from, stride));
  }
}
#endif

constexpr int64_t kTransposeDepth = 64;

// from[j][k] (kTransposeDepth floats between rows, j < kLanes) to to[k][j] (kTileColumns floats between
// rows).
HWY_INLINE void transpose(const float* HWY_RESTRICT from, int64_t depth, float* HWY_RESTRICT to) {
#if HWY_TARGET == HWY_SCALAR
  for (int64_t k = 0; k < depth; k++) to[k * kTileColumns] = from[k];
#else
  const D d;
  const hn::Repartition<double, D> dd;
  for (int64_t k = 0; k < depth; k += 4) {
    // Within each block of four lanes, rows j = 0..3 of a 4x4 matrix whose columns are k..k+3.
    const V v0 = load_every_fourth_row(d, from + k, kTransposeDepth);
    const V v1 = load_every_fourth_row(d, from + k + kTransposeDepth, kTransposeDepth);
    const V v2 = load_every_fourth_row(d, from + k + 2 * kTransposeDepth, kTransposeDepth);
    const V v3 = load_every_fourth_row(d, from + k + 3 * kTransposeDepth, kTransposeDepth);
    const auto low01 = hn::BitCast(dd, hn::InterleaveLower(d, v0, v1));
    const auto low23 = hn::BitCast(dd, hn::InterleaveLower(d, v2, v3));
    const auto high01 = hn::BitCast(dd, hn::InterleaveUpper(d, v0, v1));
    const auto high23 = hn::BitCast(dd, hn::InterleaveUpper(d, v2, v3));
    const V columns[4] = {hn::BitCast(d, hn::InterleaveLower(dd, low01, low23)),
                          hn::BitCast(d, hn::InterleaveUpper(dd, low01, low23)),
                          hn::BitCast(d, hn::InterleaveLower(dd, high01, high23)),
                          hn::BitCast(d, hn::InterleaveUpper(dd, high01, high23))};
    const int64_t valid = std::min<int64_t>(4, depth - k);
    for (int64_t i = 0; i < valid; i++) hn::Store(columns[i], d, to + (k + i) * kTileColumns);
  }
#endif
}

void pack_transposed(const WeightView& w, int64_t first_row, int64_t rows, int64_t first_column,
                     int64_t depth, float* strip) {
  HWY_ALIGN_MAX float values[kLanes * kTransposeDepth];
  for (int64_t j = 0; j < kTileColumns; j += kLanes) {
    for (int64_t k = 0; k < depth; k += kTransposeDepth) {
      const int64_t count = std::min(kTransposeDepth, depth - k);
      for (int64_t i = 0; i < kLanes; i++) {
        float* to = values + i * kTransposeDepth;
        if (j + i < rows) {
          const int64_t offset = (first_row + j + i) * w.columns + first_column + k;
          prefetch_weights(w, offset + kTransposeDepth);
          prefetch_weights(w, offset + kTransposeDepth + kWeightsLine);
          expand(w, offset, count, to);
          std::memset(to + count, 0, sizeof(float) * (kTransposeDepth - count));
        } else {
          std::memset(to, 0, sizeof(float) * kTransposeDepth);
        }
      }
      transpose(values, count, strip + k * kTileColumns + j);
    }
  }
}

constexpr int64_t kRowsAhead = 4;  // of the one being packed

void pack_row(const WeightView& w, int64_t row, int64_t first_column, int64_t columns, float* strips,
              int64_t strip_stride) {
  for (int64_t j = 0; j < columns; j += kTileColumns, strips += strip_stride) {
    const int64_t count = std::min<int64_t>(kTileColumns, columns - j);
    const int64_t offset = row * w.columns + first_column + j;
    prefetch_weights(w, offset + kRowsAhead * w.columns);
    expand(w, offset, count, strips);
    std::fill(strips + count, strips + kTileColumns, 0.0f);
  }
}

void pack_broadcast(ConstMatrix a, Parts rows, float* strips, int64_t strip_stride) {
  // Some rows at a time: to a strip they go as a run of lines, and their own lines stay in the first-level
  // cache until the next strip takes the rest of them, even where rows are 4 KiB apart.
  constexpr int64_t kRowsAtOnce = 8;
  for (int64_t first = 0; first < a.rows; first += kRowsAtOnce) {
    const int64_t end = std::min(a.rows, first + kRowsAtOnce);
    for (int64_t s = 0; s < rows.count; s++) {
      const bool last = s + 1 == rows.count;
      const int64_t column = rows.first(s);
      for (int64_t k = first; k < end; k++) {
        const float* from = a.row(k) + column;
        float* to = strips + s * strip_stride + k * kTileRows;
        hwy::Prefetch(from + kRowsAtOnce * a.stride);
        // A copy of known size, for all but the last strip: what it takes too much belongs to the next one,
        // since nearly equal parts have at least half of the most.
        if (last) {
          std::memcpy(to, from, sizeof(float) * rows.size(s));
        } else {
          std::memcpy(to, from, sizeof(float) * kTileRows);
        }
      }
    }
  }
}

const Kernels& target_kernels() {
  static constexpr Kernels kKernels = {kTileRows,      kTileColumns,  pack_transposed, pack_row,
                                       pack_broadcast, multiply_rows, multiply_columns};
  return kKernels;
}

}  // namespace HWY_NAMESPACE
}  // namespace headrace::math::gemm
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math::gemm {

HWY_EXPORT(target_kernels);
const Kernels& kernels() { return HWY_DYNAMIC_DISPATCH(target_kernels)(); }

}  // namespace headrace::math::gemm
#endif

// Products of small packed tiles, for attention. Scores are kept transposed, in strips of [keys][kStrip]
// queries, so that a vector holds one key's scores for many queries: a softmax over keys goes down the
// columns and never across a vector. Included once a target.
#if defined(HEADRACE_ENGINE_MATH_ATTENTION_PRODUCTS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADRACE_ENGINE_MATH_ATTENTION_PRODUCTS_INL_H
#undef HEADRACE_ENGINE_MATH_ATTENTION_PRODUCTS_INL_H
#else
#define HEADRACE_ENGINE_MATH_ATTENTION_PRODUCTS_INL_H
#endif

#include <array>
#include <utility>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

constexpr int kVectors = kParts == 1 ? 2 : 1;  // of a register tile's row
constexpr int kStrip = kVectors * kLanes;
// As many accumulators as leave registers for the vectors and a broadcast.
constexpr int kTileRows = kParts == 1 ? 14 : 6;

enum class Write : uint8_t {
  kStore,    // c = product
  kAdd,      // c += product
  kCorrect,  // c = c * correction + product, with a correction a row
};

// How the broadcast operand lies: element (row, k) at row * kRow + k * kDepth.
template <int kRowStep, int kDepthStep>
struct Layout {
  static constexpr int kRow = kRowStep, kDepth = kDepthStep;
};

struct Product {
  const float* a;  // the broadcast operand
  const float* b;  // the vector operand, [terms][>= kStrip]
  int64_t b_step;  // floats from one row of b to the next
  int64_t terms;   // of a run
  int64_t runs;    // b goes on through the runs,
  int64_t a_jump;  // a skips so many floats after each
  Write write;
  const float* correction;
  int64_t columns;  // of c that exist
  float* c;
  int64_t c_stride;
};

// One register tile: for each output a chain of fused multiply-adds over the terms, from zero.
template <int kRows, class L>
HWY_NOINLINE void product_tile(const Product& product) {
  Floats sums[kRows][kVectors];
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; r++) {
    for (int v = 0; v < kVectors; v++) sums[r][v] = broadcast(0);
  }
  const float* HWY_RESTRICT a = product.a;
  const float* HWY_RESTRICT b = product.b;
  for (int64_t run = 0; run < product.runs; run++) {
    for (int64_t k = 0; k < product.terms; k++) {
      Floats right[kVectors];
      for (int v = 0; v < kVectors; v++) right[v] = load(b + v * kLanes);
      HWY_UNROLL(16)
      for (int r = 0; r < kRows; r++) {
        const Floats left = broadcast(a[r * L::kRow]);
        for (int v = 0; v < kVectors; v++) sums[r][v] = fused(left, right[v], sums[r][v]);
      }
      a += L::kDepth;
      b += product.b_step;
    }
    a += product.a_jump;
  }
  HWY_UNROLL(16)
  for (int r = 0; r < kRows; r++) {
    for (int v = 0; v < kVectors; v++) {
      const int64_t left = product.columns - v * kLanes;
      if (left <= 0) continue;
      float* c = product.c + r * product.c_stride + v * kLanes;
      Floats value = sums[r][v];
      if (product.write == Write::kAdd) value = load(c, left) + value;
      if (product.write == Write::kCorrect) {
        value = fused(load(c, left), broadcast(product.correction[r]), value);
      }
      store(value, c, left);
    }
  }
}

using TileFunction = void (*)(const Product&);

template <class L, int... kRows>
constexpr std::array<TileFunction, sizeof...(kRows)> tile_functions(std::integer_sequence<int, kRows...>) {
  return {&product_tile<kRows + 1, L>...};
}

// Calls body(first, rows, function) for each register tile of `rows` rows, nearly equal ones.
template <class L, class Body>
HWY_INLINE void for_tiles(int64_t rows, const Body& body) {
  static constexpr auto kFunctions = tile_functions<L>(std::make_integer_sequence<int, kTileRows>());
  const int64_t tiles = (rows + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < tiles; tile++) {
    const int64_t first = tile * rows / tiles, count = (tile + 1) * rows / tiles - first;
    body(first, kFunctions[static_cast<size_t>(count - 1)]);
  }
}

// scores[key][query] = sum over k < depth of packed[key][k] strip[k][query].
template <int kRowStride>
HWY_NOINLINE void multiply_scores(const float* packed, int64_t keys, const float* strip, int64_t depth,
                                  float* scores) {
  for_tiles<Layout<kRowStride, 1>>(keys, [&](int64_t key, TileFunction tile) {
    tile({packed + key * kRowStride, strip, kStrip, depth, 1, 0, Write::kStore, nullptr, kStrip,
          scores + key * kStrip, kStrip});
  });
}

// to[query][:] (+)= sum over keys of scores[key][query] packed[key][:].
HWY_INLINE void gather_keys(const float* scores, int64_t queries, int64_t keys, const float* packed,
                            int64_t packed_stride, Write write, const float* correction, Matrix to) {
  for (int64_t j = 0; j < to.columns; j += kStrip) {
    for_tiles<Layout<1, kStrip>>(queries, [&](int64_t query, TileFunction tile) {
      tile({scores + query, packed + j, packed_stride, keys, 1, 0, write,
            correction != nullptr ? correction + query : nullptr, to.columns - j, to.row(query) + j,
            to.stride});
    });
  }
}

// to[key][:] (+)= sum over strips, then queries, of scores[strip][key][query] packed[query][:]. Strips of
// which all queries come before the tile's first key are left out: `first_key` counts from the first query.
HWY_INLINE void gather_queries(const float* scores, int64_t strip_floats, int64_t strips, int64_t keys,
                               int64_t first_key, const float* packed, int64_t packed_stride, Write write,
                               Matrix to) {
  for (int64_t j = 0; j < to.columns; j += kStrip) {
    for_tiles<Layout<kStrip, 1>>(keys, [&](int64_t key, TileFunction tile) {
      const int64_t before = first_key + key > 0 ? (first_key + key) / kStrip : 0;
      tile({scores + before * strip_floats + key * kStrip, packed + before * kStrip * packed_stride + j,
            packed_stride, kStrip, strips - before, strip_floats - kStrip, write, nullptr, to.columns - j,
            to.row(key) + j, to.stride});
    });
  }
}

// strip[k][j] = rows[j][k], zeros for count <= j < kStrip.
HWY_INLINE void pack_transposed(ConstMatrix rows, float* strip) {
  for (int64_t k = 0; k < rows.columns; k++) {
    float* to = strip + k * kStrip;
    for (int64_t j = 0; j < kStrip; j++) to[j] = j < rows.rows ? rows.row(j)[k] : 0;
  }
}

// to[j][k] = rows[j][k], zeros to a multiple of kStrip of rows and columns.
HWY_INLINE void pack_rows(ConstMatrix rows, int64_t stride, float* to) {
  const int64_t padded_rows = (rows.rows + kStrip - 1) / kStrip * kStrip;
  const int64_t padded_columns = (rows.columns + kStrip - 1) / kStrip * kStrip;
  for (int64_t j = 0; j < padded_rows; j++) {
    for (int64_t k = 0; k < padded_columns; k += kLanes) {
      const int64_t left = j < rows.rows ? rows.columns - k : 0;
      store(left > 0 ? load(rows.row(j) + k, left) : broadcast(0), to + j * stride + k);
    }
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

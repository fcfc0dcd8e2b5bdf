#include "engine/math/attention_tiles.h"

#include <cmath>
#include <limits>

#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/attention_tiles.cc"
#include <hwy/foreach_target.h>

#include "engine/math/attention_products-inl.h"
#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

using attention_tiles::BackwardTask;
using attention_tiles::ForwardTask;
using attention_tiles::Head;
using attention_tiles::kKeys;
using attention_tiles::kQueries;

using ScoresFunction = void (*)(const float*, int64_t, const float*, int64_t, float*);

HWY_INLINE ScoresFunction scores_function(int64_t packed_stride) {
  return packed_stride == 80    ? &multiply_scores<80>
         : packed_stride == 144 ? &multiply_scores<144>
                                : &multiply_scores<272>;
}

// Sixteen queries of a strip of scores. A key later than the query counts nothing: the lane of query q sees
// key j if j <= first_visible + lane.
struct Lane {
  float* scores;  // [keys][kStrip]
  int64_t keys;
  int64_t first_visible;

  HWY_INLINE int64_t unmasked() const { return std::clamp<int64_t>(first_visible + 1, 0, keys); }
  HWY_INLINE Floats bounds() const {
    HWY_ALIGN_MAX float lanes[kLanes];
    for (int i = 0; i < kLanes; i++) lanes[i] = static_cast<float>(first_visible + i);
    return load(lanes);
  }
};

// The step of an online softmax: scores become exp(scale (score - maximum)), and sums made before are to be
// multiplied with `correction`.
HWY_INLINE void softmax_step(const Lane& lane, float scale, float* maximum, float* sum, float* correction) {
  const Floats bounds = lane.bounds(), scales = broadcast(scale), zero = broadcast(0);
  const Floats lowest = broadcast(-std::numeric_limits<float>::infinity());
  const int64_t unmasked = lane.unmasked();
  const Floats before = load(maximum);
  Floats after = before;
  for (int64_t j = 0; j < unmasked; j++) after = max(after, load(lane.scores + j * kStrip));
  for (int64_t j = unmasked; j < lane.keys; j++) {
    const Floats score = load(lane.scores + j * kStrip);
    after = max(after, where_less(bounds, broadcast(static_cast<float>(j)), lowest, score));
  }
  Floats total = zero;
  for (int64_t j = 0; j < unmasked; j++) {
    float* at = lane.scores + j * kStrip;
    const Floats p = exp((load(at) - after) * scales);
    total = total + p;
    store(p, at);
  }
  for (int64_t j = unmasked; j < lane.keys; j++) {
    float* at = lane.scores + j * kStrip;
    const Floats p = exp((load(at) - after) * scales);
    const Floats seen = where_less(bounds, broadcast(static_cast<float>(j)), zero, p);
    total = total + seen;
    store(seen, at);
  }
  const Floats factor = exp((before - after) * scales);
  store(after, maximum);
  store(fused(load(sum), factor, total), sum);
  store(factor, correction);
}

// Scores become the probabilities p, dp becomes scale p (dp - row_product); zero where nothing counts.
HWY_INLINE void softmax_backward_step(const Lane& lane, float* dp, float scale, const float* log_sum_exp,
                                      const float* row_product) {
  const Floats bounds = lane.bounds(), scales = broadcast(scale), zero = broadcast(0);
  const Floats minus_lse = zero - load(log_sum_exp), product = load(row_product);
  const int64_t unmasked = lane.unmasked();
  for (int64_t j = 0; j < unmasked; j++) {
    float* at = lane.scores + j * kStrip;
    const Floats p = exp(fused(load(at), scales, minus_lse));
    store(p, at);
    store((load(dp + j * kStrip) - product) * (p * scales), dp + j * kStrip);
  }
  for (int64_t j = unmasked; j < lane.keys; j++) {
    float* at = lane.scores + j * kStrip;
    const Floats p = exp(fused(load(at), scales, minus_lse));
    const Floats key = broadcast(static_cast<float>(j));
    store(where_less(bounds, key, zero, p), at);
    const Floats ds = (load(dp + j * kStrip) - product) * (p * scales);
    store(where_less(bounds, key, zero, ds), dp + j * kStrip);
  }
}

HWY_INLINE ConstMatrix rows_from(ConstMatrix m, int64_t first, int64_t most) {
  return m.row_range(first, std::min(most, m.rows - first));
}

// Keys of the tile at `first_key` that the strip of queries at `query` sees.
HWY_INLINE int64_t visible_keys(int64_t query, int64_t queries, int64_t first_key) {
  return std::min(kKeys, query + queries - first_key);
}

HWY_NOINLINE void attention_forward(const ForwardTask& task) {
  const Head& head = task.head;
  const int64_t depth = head.queries.columns, stride = attention_tiles::packed_stride(depth);
  const ScoresFunction scores_of = scores_function(stride);
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(depth)));
  const int64_t queries = std::min(kQueries, head.queries.rows - task.first_query);
  const int64_t strips = (queries + kStrip - 1) / kStrip;

  float* packed_keys = task.scratch;
  float* packed_values = packed_keys + kKeys * stride;
  float* sums = packed_values + kKeys * stride;
  float* strip_queries = sums + kQueries * stride;
  float* scores = strip_queries + kQueries * depth;
  float* maximum = scores + kKeys * 32;
  float* sum = maximum + kQueries;
  float* correction = sum + kQueries;
  float* log_sum_exp = correction + kQueries;

  std::fill_n(maximum, kQueries, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, kQueries, 0.0F);
  for (int64_t s = 0; s < strips; s++) {
    pack_transposed(rows_from(head.queries, task.first_query + s * kStrip, kStrip),
                    strip_queries + s * kStrip * depth);
  }
  for (int64_t first_key = 0; first_key < task.first_query + queries; first_key += kKeys) {
    pack_rows(rows_from(head.keys, first_key, kKeys), stride, packed_keys);
    pack_rows(rows_from(head.values, first_key, kKeys), stride, packed_values);
    for (int64_t s = 0; s < strips; s++) {
      const int64_t row = s * kStrip, rows = std::min<int64_t>(kStrip, queries - row);
      const int64_t query = task.first_query + row, keys = visible_keys(query, rows, first_key);
      scores_of(packed_keys, keys, strip_queries + row * depth, depth, scores);
      for (int64_t v = 0; v < kStrip; v += kLanes) {
        softmax_step({scores + v, keys, query + v - first_key}, scale, maximum + row + v, sum + row + v,
                     correction + row + v);
      }
      gather_keys(scores, rows, keys, packed_values, stride, first_key == 0 ? Write::kStore : Write::kCorrect,
                  correction + row, {sums + row * stride, rows, depth, stride});
    }
  }
  for (int64_t i = 0; i < kQueries; i += kLanes) {
    store(fused(load(maximum + i), broadcast(scale), log(load(sum + i))), log_sum_exp + i);
  }
  for (int64_t q = 0; q < queries; q++) {
    const Floats divisor = broadcast(sum[q]);
    float* out = task.out.row(task.first_query + q);
    for (int64_t j = 0; j < depth; j += kLanes)
      store(load(sums + q * stride + j) / divisor, out + j, depth - j);
    *task.log_sum_exp.row(task.first_query + q) = log_sum_exp[q];
  }
}

// A tile of queries in the backward pass, packed in the two ways that it is needed.
struct QueryTile {
  int64_t first, count, strips;
  float *queries, *dout;              // [kQueries][stride]
  float *strip_queries, *strip_dout;  // strips of [depth][kStrip]
  float *scores, *dscores;            // strips of [kKeys][kStrip]
  float *log_sum_exp, *row_product;   // [kQueries]; row_product = sum of dout * out
};

HWY_INLINE float dot(const float* a, const float* b, int64_t n) {
  Floats total = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) total = fused(load(a + i, n - i), load(b + i, n - i), total);
  return sum(total);
}

HWY_INLINE void pack_query_tile(const BackwardTask& task, int64_t stride, const QueryTile& tile) {
  const int64_t depth = task.dout.columns;
  pack_rows(rows_from(task.head.queries, tile.first, kQueries), stride, tile.queries);
  pack_rows(rows_from(task.dout, tile.first, kQueries), stride, tile.dout);
  for (int64_t s = 0; s < tile.strips; s++) {
    const int64_t query = tile.first + s * kStrip;
    pack_transposed(rows_from(task.head.queries, query, kStrip), tile.strip_queries + s * kStrip * depth);
    pack_transposed(rows_from(task.dout, query, kStrip), tile.strip_dout + s * kStrip * depth);
  }
  std::fill_n(tile.log_sum_exp, kQueries, 0.0F);
  std::fill_n(tile.row_product, kQueries, 0.0F);
  for (int64_t q = 0; q < tile.count; q++) {
    tile.log_sum_exp[q] = *task.log_sum_exp.row(tile.first + q);
    tile.row_product[q] = dot(task.dout.row(tile.first + q), task.out.row(tile.first + q), depth);
  }
}

HWY_NOINLINE void attention_backward_head(const BackwardTask& task) {
  const Head& head = task.head;
  const int64_t depth = head.queries.columns, stride = attention_tiles::packed_stride(depth);
  const ScoresFunction scores_of = scores_function(stride);
  const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(depth)));
  constexpr int64_t kStripScores = kKeys * kStrip;

  float* packed_keys = task.scratch;
  float* packed_values = packed_keys + kKeys * stride;
  QueryTile tile;
  tile.queries = packed_values + kKeys * stride;
  tile.dout = tile.queries + kQueries * stride;
  tile.strip_queries = tile.dout + kQueries * stride;
  tile.strip_dout = tile.strip_queries + kQueries * depth;
  tile.scores = tile.strip_dout + kQueries * depth;
  tile.dscores = tile.scores + kKeys * kQueries;
  tile.log_sum_exp = tile.dscores + kKeys * kQueries;
  tile.row_product = tile.log_sum_exp + kQueries;

  for (tile.first = 0; tile.first < head.queries.rows; tile.first += kQueries) {
    tile.count = std::min(kQueries, head.queries.rows - tile.first);
    tile.strips = (tile.count + kStrip - 1) / kStrip;
    pack_query_tile(task, stride, tile);
    for (int64_t first_key = 0; first_key < tile.first + tile.count; first_key += kKeys) {
      const ConstMatrix keys = rows_from(head.keys, first_key, kKeys);
      pack_rows(keys, stride, packed_keys);
      pack_rows(rows_from(head.values, first_key, kKeys), stride, packed_values);
      for (int64_t s = 0; s < tile.strips; s++) {
        const int64_t row = s * kStrip, rows = std::min<int64_t>(kStrip, tile.count - row);
        const int64_t query = tile.first + row, visible = visible_keys(query, rows, first_key);
        float* scores = tile.scores + s * kStripScores;
        float* dscores = tile.dscores + s * kStripScores;
        scores_of(packed_keys, visible, tile.strip_queries + row * depth, depth, scores);
        scores_of(packed_values, visible, tile.strip_dout + row * depth, depth, dscores);
        for (int64_t v = 0; v < kStrip; v += kLanes) {
          softmax_backward_step({scores + v, visible, query + v - first_key}, dscores + v, scale,
                                tile.log_sum_exp + row + v, tile.row_product + row + v);
        }
        // Sums over queries read all keys of the tile.
        std::fill(scores + visible * kStrip, scores + keys.rows * kStrip, 0.0F);
        std::fill(dscores + visible * kStrip, dscores + keys.rows * kStrip, 0.0F);
        gather_keys(dscores, rows, visible, packed_keys, stride, first_key == 0 ? Write::kStore : Write::kAdd,
                    nullptr, task.dqueries.row_range(query, rows));
      }
      const Write write = tile.first == first_key ? Write::kStore : Write::kAdd;
      const int64_t offset = first_key - tile.first;
      gather_queries(tile.scores, kStripScores, tile.strips, keys.rows, offset, tile.dout, stride, write,
                     task.dvalues.row_range(first_key, keys.rows));
      gather_queries(tile.dscores, kStripScores, tile.strips, keys.rows, offset, tile.queries, stride, write,
                     task.dkeys.row_range(first_key, keys.rows));
    }
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math::attention_tiles {
namespace {

HWY_EXPORT(attention_forward);
HWY_EXPORT(attention_backward_head);

}  // namespace

void forward(const ForwardTask& task) { HWY_DYNAMIC_DISPATCH(attention_forward)(task); }
void backward(const BackwardTask& task) { HWY_DYNAMIC_DISPATCH(attention_backward_head)(task); }

}  // namespace headrace::math::attention_tiles
#endif  // HWY_ONCE

#include "engine/math/pooling.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/math/gemm.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/pooling.cc"
#include <hwy/foreach_target.h>

#include "engine/math/activations-inl.h"
#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// Rows [begin, end) of x into y: their sum times `scale`, or the largest of each column.
HWY_NOINLINE void pool_rows(const ConstMatrix& x, int64_t begin, int64_t end, bool largest_of, float scale,
                            float* y) {
  for (int64_t at = 0; at < x.columns; at += kLanes) {
    const int64_t n = x.columns - at;
    Floats total = largest_of ? load(x.row(begin) + at, n) : broadcast(0);
    for (int64_t panel = begin; panel < end; panel += kPanel) {
      Floats chain = largest_of ? total : broadcast(0);
      for (int64_t r = panel; r < std::min(end, panel + kPanel); r++) {
        const Floats value = load(x.row(r) + at, n);
        chain = largest_of ? where_less(chain, value, value, chain) : chain + value;
      }
      total = largest_of ? chain : total + chain;
    }
    store(largest_of ? total : total * broadcast(scale), y + at, n);
  }
}

HWY_NOINLINE float dot_row(const float* a, const float* b, int64_t n) {
  Floats total = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) total = fused(load(a + i, n - i), load(b + i, n - i), total);
  return sum(total);
}

HWY_NOINLINE float tanh_of(float value) {
  HWY_ALIGN_MAX float lanes[kLanes];
  store(hyperbolic_tangent(broadcast(value)), lanes);
  return lanes[0];
}

HWY_NOINLINE void scale_row(const float* x, float factor, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes) store(load(x + i, n - i) * broadcast(factor), y + i, n - i);
}

// y = a x + b z
HWY_NOINLINE void combine_rows(float a, const float* x, float b, const float* z, int64_t n, float* y) {
  for (int64_t i = 0; i < n; i += kLanes)
    store(fused(broadcast(a), load(x + i, n - i), broadcast(b) * load(z + i, n - i)), y + i, n - i);
}

// y += the sum of factors[i] * x's row chosen[i], for columns [at, at + 16).
HWY_NOINLINE void add_chosen_rows(const ConstMatrix& x, const int32_t* chosen, const float* factors,
                                  int64_t count, int64_t at, float* y) {
  const int64_t n = x.columns - at;
  Floats total = load(y + at, n);
  for (int64_t panel = 0; panel < count; panel += kPanel) {
    Floats chain = broadcast(0);
    for (int64_t i = panel; i < std::min(count, panel + kPanel); i++)
      chain = fused(broadcast(factors[i]), load(x.row(chosen[i]) + at, n), chain);
    total = total + chain;
  }
  store(total, y + at, n);
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(pool_rows);
HWY_EXPORT(dot_row);
HWY_EXPORT(tanh_of);
HWY_EXPORT(scale_row);
HWY_EXPORT(combine_rows);
HWY_EXPORT(add_chosen_rows);

constexpr int64_t kColumnsTogether = 16;

float length_of(const float* p, int64_t n) {
  double squares = 0;
  for (int64_t i = 0; i < n; i++) squares += double(p[i]) * double(p[i]);
  return float(std::sqrt(squares));
}

}  // namespace

void pool(Pooling kind, ConstMatrix x, std::span<const int64_t> first, Matrix y) {
  HEADRACE_CHECK(y.rows + 1 == std::ssize(first) && x.columns == y.columns && first.back() == x.rows);
  parallel_tasks(y.rows, [&](int64_t g) {
    const int64_t begin = first[size_t(g)], end = first[size_t(g) + 1];
    const float scale = kind == Pooling::kMean ? 1.0F / float(end - begin) : 1.0F;
    HWY_DYNAMIC_DISPATCH(pool_rows)(x, begin, end, kind == Pooling::kMax, scale, y.row(g));
  });
}

void pool_backward(Pooling kind, ConstMatrix x, std::span<const int64_t> first, ConstMatrix dy, Matrix dx) {
  HEADRACE_CHECK(dy.rows + 1 == std::ssize(first) && first.back() == dx.rows && dx.columns == dy.columns);
  parallel_tasks(dy.rows, [&](int64_t g) {
    const int64_t begin = first[size_t(g)], end = first[size_t(g) + 1];
    if (kind != Pooling::kMax) {
      const float scale = kind == Pooling::kMean ? 1.0F / float(end - begin) : 1.0F;
      for (int64_t r = begin; r < end; r++)
        HWY_DYNAMIC_DISPATCH(scale_row)(dy.row(g), scale, dx.columns, dx.row(r));
      return;
    }
    for (int64_t r = begin; r < end; r++) std::fill_n(dx.row(r), dx.columns, 0.0F);
    for (int64_t c = 0; c < dx.columns; c++) {
      int64_t best = begin;
      for (int64_t r = begin + 1; r < end; r++)
        if (x.row(best)[c] < x.row(r)[c]) best = r;
      dx.row(best)[c] = dy.row(g)[c];
    }
  });
}

void node_scores(ConstMatrix x, const float* p, float* scores) {
  const float length = length_of(p, x.columns);
  parallel_rows(x.rows, x.columns, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++)
      scores[r] = HWY_DYNAMIC_DISPATCH(dot_row)(x.row(r), p, x.columns) / length;
  });
}

void choose_nodes(const float* scores, std::span<const int64_t> first, std::span<const int64_t> kept_first,
                  std::span<int32_t> order, std::span<int32_t> chosen) {
  HEADRACE_CHECK(first.size() == kept_first.size() && first.back() == std::ssize(order) &&
                 kept_first.back() == std::ssize(chosen));
  const auto key = [&](int32_t node) { return std::isnan(scores[node]) ? -INFINITY : scores[node]; };
  parallel_tasks(std::ssize(first) - 1, [&](int64_t g) {
    const auto begin = order.begin() + first[size_t(g)], end = order.begin() + first[size_t(g) + 1];
    for (auto node = begin; node != end; ++node) *node = int32_t(node - order.begin());
    const int64_t kept = kept_first[size_t(g) + 1] - kept_first[size_t(g)];
    std::nth_element(begin, begin + std::min<int64_t>(kept, end - begin - 1), end,
                     [&](int32_t a, int32_t b) { return key(a) != key(b) ? key(a) > key(b) : a < b; });
    std::sort(begin, begin + kept);
    std::copy(begin, begin + kept, chosen.begin() + kept_first[size_t(g)]);
  });
}

void gate_nodes(ConstMatrix x, const float* scores, std::span<const int32_t> chosen, Matrix y) {
  HEADRACE_CHECK(y.rows == std::ssize(chosen) && x.columns == y.columns);
  parallel_rows(y.rows, y.columns, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int32_t node = chosen[size_t(i)];
      HWY_DYNAMIC_DISPATCH(scale_row)
      (x.row(node), HWY_DYNAMIC_DISPATCH(tanh_of)(scores[node]), y.columns, y.row(i));
    }
  });
}

void gate_nodes_backward(ConstMatrix x, const float* p, const float* scores, std::span<const int32_t> chosen,
                         ConstMatrix dy, Matrix dx, float* dp, std::span<float> slopes) {
  HEADRACE_CHECK(dy.rows == std::ssize(chosen) && dx.rows == x.rows && slopes.size() >= chosen.size());
  const int64_t n = x.columns;
  const float length = length_of(p, n);
  parallel_rows(dx.rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; r++) std::fill_n(dx.row(r), n, 0.0F);
  });
  parallel_rows(dy.rows, n, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int32_t node = chosen[size_t(i)];
      const float gate = HWY_DYNAMIC_DISPATCH(tanh_of)(scores[node]);
      const float slope = HWY_DYNAMIC_DISPATCH(dot_row)(dy.row(i), x.row(node), n) * (1 - gate * gate);
      slopes[size_t(i)] = slope / length;
      HWY_DYNAMIC_DISPATCH(combine_rows)(gate, dy.row(i), slope / length, p, n, dx.row(node));
    }
  });
  // d(x p / |p|) / dp = x / |p| - (x p / |p|) p / |p|^2
  double along = 0;
  for (size_t i = 0; i < chosen.size(); i++) along += double(slopes[i]) * double(scores[chosen[i]]);
  parallel_tasks((n + kColumnsTogether - 1) / kColumnsTogether, [&](int64_t part) {
    const int64_t at = part * kColumnsTogether;
    HWY_DYNAMIC_DISPATCH(add_chosen_rows)(x, chosen.data(), slopes.data(), std::ssize(chosen), at, dp);
    for (int64_t c = at; c < std::min(n, at + kColumnsTogether); c++)
      dp[c] -= float(along / double(length)) * p[c];
  });
}

size_t induced_bytes(int64_t rows, int64_t kept, int64_t terms) {
  return size_t(kept + 1) * sizeof(int64_t) + size_t(kept) * sizeof(float) +
         size_t(terms + rows) * sizeof(int32_t);
}

// [first, kept + 1 | scale, kept | columns, up to terms | what each node of the whole is here, or -1]
void induce(const Adjacency& a, std::span<const int32_t> chosen, std::byte* memory) {
  const auto kept = std::ssize(chosen);
  auto* first = reinterpret_cast<int64_t*>(memory);
  auto* scale = reinterpret_cast<float*>(first + kept + 1);
  auto* columns = reinterpret_cast<int32_t*>(scale + kept);
  int32_t* place = columns + a.first[a.rows];
  std::fill_n(place, a.rows, -1);
  for (int64_t i = 0; i < kept; i++) place[chosen[size_t(i)]] = int32_t(i);
  int64_t next = 0;
  first[0] = 0;
  for (int64_t i = 0; i < kept; i++) {
    for (int64_t at = a.first[chosen[size_t(i)]]; at < a.first[chosen[size_t(i)] + 1]; at++) {
      if (place[a.columns[at]] >= 0) columns[next++] = place[a.columns[at]];
    }
    first[i + 1] = next;
    scale[i] = float(1 / std::sqrt(double(next - first[i])));
  }
}

Adjacency induced(const std::byte* memory, int64_t kept) {
  const auto* first = reinterpret_cast<const int64_t*>(memory);
  const auto* scale = reinterpret_cast<const float*>(first + kept + 1);
  return {.first = first,
          .columns = reinterpret_cast<const int32_t*>(scale + kept),
          .scale = scale,
          .rows = kept};
}

}  // namespace headrace::math
#endif  // HWY_ONCE

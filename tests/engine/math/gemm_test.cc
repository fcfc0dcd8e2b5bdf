#include "engine/math/gemm.h"

#include <gtest/gtest.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include <hwy/targets.h>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/engine/math/workspace.h"

namespace headrace::math {
namespace {

using testing::Workspace;

// Values in [-1, 1] with full mantissas.
std::vector<float> random_floats(int64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(generator);
  return values;
}

// A matrix of random values, with `padding` more of them between its rows.
struct RandomMatrix {
  std::vector<float> values;
  Matrix view;

  RandomMatrix(int64_t rows, int64_t columns, int64_t padding, uint32_t seed)
      : values(random_floats(rows * (columns + padding), seed)),
        view{values.data(), rows, columns, columns + padding} {}
};

// A random weight in the planes that the store keeps, and as the floats that they stand for.
struct RandomWeight {
  std::vector<uint16_t> high, low;
  std::vector<float> values;
  WeightView view;

  RandomWeight(int64_t rows, int64_t columns, bool with_low, uint32_t seed)
      : values(random_floats(rows * columns, seed)) {
    for (float& value : values) {
      const uint32_t bits = std::bit_cast<uint32_t>(value);
      high.push_back(static_cast<uint16_t>((bits + 0x8000) >> 16));
      low.push_back(static_cast<uint16_t>(bits));
      if (!with_low) value = std::bit_cast<float>(uint32_t{high.back()} << 16);
    }
    view = {high.data(), with_low ? low.data() : nullptr, rows, columns};
  }

  WeightView row_range(int64_t first, int64_t count) const {
    const int64_t offset = first * view.columns;
    return {view.high + offset, view.low != nullptr ? view.low + offset : nullptr, count, view.columns};
  }
};

void nt(ConstMatrix x, WeightView w, const float* bias, Matrix y) {
  gemm_nt(x, w, bias, y, Workspace(gemm_nt_workspace_bytes(x.rows, w.rows, w.columns)));
}
void nn(ConstMatrix dy, WeightView w, Matrix dx, Accumulate accumulate) {
  gemm_nn(dy, w, dx, accumulate, Workspace(gemm_nn_workspace_bytes(dy.rows, w.rows, w.columns)));
}
void tn(ConstMatrix dy, ConstMatrix x, int64_t sequence, Matrix dw, Accumulate accumulate) {
  gemm_tn(dy, x, sequence, dw, accumulate, Workspace(gemm_tn_workspace_bytes(x.rows, dy.columns, x.columns)));
}

// The contract of gemm.h, one output at a time: a(k) b(k) over panels that start anew at each multiple of
// `sequence`, added to `held` or stored.
template <class A, class B>
float chain(int64_t total, int64_t sequence, const A& a, const B& b, float held, Accumulate accumulate) {
  bool store = accumulate == Accumulate::kNo;
  for (int64_t start = 0; start < total; start += sequence) {
    for (int64_t first = 0; first < sequence; first += kPanel) {
      float sum = 0.0f;
      for (int64_t k = start + first; k < start + std::min(sequence, first + kPanel); k++) {
        sum = std::fma(a(k), b(k), sum);
      }
      held = store ? sum : held + sum;
      store = false;
    }
  }
  return held;
}

// Every float of both buffers, the padding between rows included.
void expect_same_bits(const std::vector<float>& actual, const std::vector<float>& expected,
                      const std::string& what) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); i++) {
    ASSERT_EQ(std::bit_cast<uint32_t>(actual[i]), std::bit_cast<uint32_t>(expected[i]))
        << what << ": element " << i << " is " << actual[i] << " and should be " << expected[i];
  }
}

struct Size {
  int64_t tokens, out, in;
  std::string text() const {
    return std::to_string(tokens) + " tokens, " + std::to_string(in) + " -> " + std::to_string(out);
  }
};

// All three products and the column sums of one size, in one vector, padding included.
std::vector<float> all_products(const Size& size, int64_t sequence, bool with_low, Accumulate accumulate) {
  const RandomMatrix x(size.tokens, size.in, 3, 1), dy(size.tokens, size.out, 5, 2);
  const RandomWeight w(size.out, size.in, with_low, 3);
  const std::vector<float> bias = random_floats(size.out, 4);
  RandomMatrix y(size.tokens, size.out, 7, 5), dx(size.tokens, size.in, 1, 6), dw(size.out, size.in, 2, 7);
  std::vector<float> db = random_floats(size.out, 8);
  nt(x.view, w.view, bias.data(), y.view);
  nn(dy.view, w.view, dx.view, accumulate);
  tn(dy.view, x.view, sequence, dw.view, accumulate);
  column_sums(dy.view, sequence, db.data(), accumulate);
  for (const auto& part : {dx.values, dw.values, db}) {
    y.values.insert(y.values.end(), part.begin(), part.end());
  }
  return y.values;
}

// The same by the contract.
std::vector<float> all_chains(const Size& size, int64_t sequence, bool with_low, Accumulate accumulate) {
  const RandomMatrix x(size.tokens, size.in, 3, 1), dy(size.tokens, size.out, 5, 2);
  const RandomWeight w(size.out, size.in, with_low, 3);
  const std::vector<float> bias = random_floats(size.out, 4);
  RandomMatrix y(size.tokens, size.out, 7, 5), dx(size.tokens, size.in, 1, 6), dw(size.out, size.in, 2, 7);
  std::vector<float> db = random_floats(size.out, 8);
  const auto weight = [&](int64_t o, int64_t i) { return w.values[static_cast<size_t>(o * size.in + i)]; };
  for (int64_t t = 0; t < size.tokens; t++) {
    for (int64_t o = 0; o < size.out; o++) {
      y.view.row(t)[o] = chain(
                             size.in, size.in, [&](int64_t k) { return x.view.row(t)[k]; },
                             [&](int64_t k) { return weight(o, k); }, 0.0f, Accumulate::kNo) +
                         bias[static_cast<size_t>(o)];
    }
    for (int64_t i = 0; i < size.in; i++) {
      dx.view.row(t)[i] = chain(
          size.out, size.out, [&](int64_t k) { return dy.view.row(t)[k]; },
          [&](int64_t k) { return weight(k, i); }, dx.view.row(t)[i], accumulate);
    }
  }
  for (int64_t o = 0; o < size.out; o++) {
    const auto dy_of = [&](int64_t k) { return dy.view.row(k)[o]; };
    for (int64_t i = 0; i < size.in; i++) {
      dw.view.row(o)[i] = chain(
          size.tokens, sequence, dy_of, [&](int64_t k) { return x.view.row(k)[i]; }, dw.view.row(o)[i],
          accumulate);
    }
    float& sum = db[static_cast<size_t>(o)];
    sum = chain(
        size.tokens, sequence, dy_of, [](int64_t) { return 1.0f; }, sum, accumulate);
  }
  for (const auto& part : {dx.values, dw.values, db}) {
    y.values.insert(y.values.end(), part.begin(), part.end());
  }
  return y.values;
}

// Odd sizes around the edges of tiles, strips, panels and pieces.
const Size kSizes[] = {{1, 1, 1},      {2, 3, 5},      {13, 31, 33},  {14, 32, 256}, {15, 33, 257},
                       {29, 97, 300},  {64, 7, 513},   {300, 40, 17}, {7, 600, 64},  {33, 260, 1100},
                       {530, 65, 130}, {20, 1030, 40}, {1040, 34, 9}, {3, 300, 3000}};

// Sequences to try for a number of tokens: all of them, and divisors.
std::vector<int64_t> sequences(int64_t tokens) {
  std::vector<int64_t> found;
  for (const int64_t parts : {1, 2, 3, 5}) {
    if (tokens % parts == 0) found.push_back(tokens / parts);
  }
  return found;
}

// Allows exactly one of Highway's targets while it lives.
class OnlyTarget {
 public:
  explicit OnlyTarget(int64_t target) { hwy::SetSupportedTargetsForTest(target); }
  ~OnlyTarget() { hwy::SetSupportedTargetsForTest(0); }
};

std::vector<int64_t> targets() {
  std::vector<int64_t> found;
  for (const int64_t target : {HWY_AVX3, HWY_AVX2, HWY_SSE4, HWY_SCALAR}) {
    if (target == HWY_SCALAR || (hwy::SupportedTargets() & target) != 0) found.push_back(target);
  }
  return found;
}

TEST(Gemm, IsOneChainOfFusedMultiplyAddsPerPanel) {
  for (const Size& size : kSizes) {
    for (const int64_t sequence : sequences(size.tokens)) {
      const std::string what = size.text() + ", sequence " + std::to_string(sequence);
      expect_same_bits(all_products(size, sequence, true, Accumulate::kYes),
                       all_chains(size, sequence, true, Accumulate::kYes), what + ", added");
    }
    expect_same_bits(all_products(size, size.tokens, false, Accumulate::kNo),
                     all_chains(size, size.tokens, false, Accumulate::kNo), size.text() + ", stored");
  }
}

TEST(Gemm, HasTheSameBitsOnEveryVectorTarget) {
  for (const Size& size : kSizes) {
    const int64_t sequence = sequences(size.tokens).back();
    const std::vector<float> expected = all_chains(size, sequence, true, Accumulate::kYes);
    for (const int64_t target : targets()) {
      const OnlyTarget only(target);
      expect_same_bits(all_products(size, sequence, true, Accumulate::kYes), expected,
                       size.text() + " on " + hwy::TargetName(target));
    }
  }
}

TEST(Gemm, HasTheSameBitsForEveryThreadCount) {
  // oneTBB gives no more threads than processors unless told.
  oneapi::tbb::global_control allow(oneapi::tbb::global_control::max_allowed_parallelism, 3);
  for (const Size& size : {Size{200, 300, 700}, Size{512, 513, 300}}) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      oneapi::tbb::task_arena arena(threads);
      const std::vector<float> result =
          arena.execute([&] { return all_products(size, size.tokens / 2, true, Accumulate::kYes); });
      if (first.empty()) first = result;
      expect_same_bits(result, first, size.text() + " on " + std::to_string(threads) + " threads");
    }
  }
}

TEST(Gemm, HasTheSameBitsWhenAWeightIsCutIntoBlocksOfPanels) {
  const Size size{45, 1100, 300};
  const RandomMatrix x(size.tokens, size.in, 0, 1), dy(size.tokens, size.out, 0, 2);
  const RandomWeight w(size.out, size.in, true, 3);
  const std::vector<float> bias = random_floats(size.out, 4);
  RandomMatrix y(size.tokens, size.out, 0, 5), dx(size.tokens, size.in, 0, 6), dw(size.out, size.in, 0, 7);
  nt(x.view, w.view, bias.data(), y.view);
  nn(dy.view, w.view, dx.view, Accumulate::kNo);
  tn(dy.view, x.view, size.tokens, dw.view, Accumulate::kNo);
  for (const int64_t block_rows : {kPanel, 2 * kPanel, 3 * kPanel}) {
    RandomMatrix y2(size.tokens, size.out, 0, 8), dx2(size.tokens, size.in, 0, 9),
        dw2(size.out, size.in, 0, 10);
    for (int64_t first = 0; first < size.out; first += block_rows) {
      const int64_t rows = std::min(block_rows, size.out - first);
      const ConstMatrix dy_block = ConstMatrix(dy.view).column_range(first, rows);
      nt(x.view, w.row_range(first, rows), bias.data() + first, y2.view.column_range(first, rows));
      nn(dy_block, w.row_range(first, rows), dx2.view, first == 0 ? Accumulate::kNo : Accumulate::kYes);
      tn(dy_block, x.view, size.tokens, dw2.view.row_range(first, rows), Accumulate::kNo);
    }
    expect_same_bits(y2.values, y.values, "y in blocks of " + std::to_string(block_rows));
    expect_same_bits(dx2.values, dx.values, "dx in blocks of " + std::to_string(block_rows));
    expect_same_bits(dw2.values, dw.values, "dw in blocks of " + std::to_string(block_rows));
  }
}

TEST(Gemm, HasTheSameBitsWhenTokensAreCutIntoMicroBatches) {
  const int64_t sequences_count = 6, sequence = 300;
  const Size size{sequences_count * sequence, 50, 70};
  const RandomMatrix x(size.tokens, size.in, 0, 1), dy(size.tokens, size.out, 0, 2);
  const RandomWeight w(size.out, size.in, true, 3);
  RandomMatrix y(size.tokens, size.out, 0, 4), dx(size.tokens, size.in, 0, 5), dw(size.out, size.in, 0, 6);
  std::vector<float> db(static_cast<size_t>(size.out));
  nt(x.view, w.view, nullptr, y.view);
  nn(dy.view, w.view, dx.view, Accumulate::kNo);
  tn(dy.view, x.view, sequence, dw.view, Accumulate::kNo);
  column_sums(dy.view, sequence, db.data(), Accumulate::kNo);
  for (const int64_t micro_batch : {1, 2, 4}) {
    RandomMatrix y2(size.tokens, size.out, 0, 7), dx2(size.tokens, size.in, 0, 8),
        dw2(size.out, size.in, 0, 9);
    std::vector<float> db2(static_cast<size_t>(size.out));
    for (int64_t first = 0; first < size.tokens; first += micro_batch * sequence) {
      const int64_t tokens = std::min(micro_batch * sequence, size.tokens - first);
      const ConstMatrix x_part = ConstMatrix(x.view).row_range(first, tokens);
      const ConstMatrix dy_part = ConstMatrix(dy.view).row_range(first, tokens);
      const Accumulate accumulate = first == 0 ? Accumulate::kNo : Accumulate::kYes;
      nt(x_part, w.view, nullptr, y2.view.row_range(first, tokens));
      nn(dy_part, w.view, dx2.view.row_range(first, tokens), Accumulate::kNo);
      tn(dy_part, x_part, sequence, dw2.view, accumulate);
      column_sums(dy_part, sequence, db2.data(), accumulate);
    }
    const std::string what = " in micro-batches of " + std::to_string(micro_batch);
    expect_same_bits(y2.values, y.values, "y" + what);
    expect_same_bits(dx2.values, dx.values, "dx" + what);
    expect_same_bits(dw2.values, dw.values, "dw" + what);
    expect_same_bits(db2, db, "db" + what);
  }
}

// Independent of the contract: the products mean what their comments say.
TEST(Gemm, AgreesWithDoublePrecision) {
  const Size size{70, 290, 530};
  const RandomMatrix x(size.tokens, size.in, 3, 1), dy(size.tokens, size.out, 5, 2);
  const RandomWeight w(size.out, size.in, true, 3);
  RandomMatrix y(size.tokens, size.out, 0, 5), dx(size.tokens, size.in, 0, 6), dw(size.out, size.in, 0, 7);
  nt(x.view, w.view, nullptr, y.view);
  nn(dy.view, w.view, dx.view, Accumulate::kNo);
  tn(dy.view, x.view, size.tokens / 2, dw.view, Accumulate::kNo);
  std::vector<double> y_exact(y.values.size()), dx_exact(dx.values.size()), dw_exact(dw.values.size());
  for (int64_t t = 0; t < size.tokens; t++) {
    for (int64_t o = 0; o < size.out; o++) {
      for (int64_t i = 0; i < size.in; i++) {
        const double weight = w.values[static_cast<size_t>(o * size.in + i)];
        const double x_value = x.view.row(t)[i], dy_value = dy.view.row(t)[o];
        y_exact[static_cast<size_t>(t * size.out + o)] += x_value * weight;
        dx_exact[static_cast<size_t>(t * size.in + i)] += dy_value * weight;
        dw_exact[static_cast<size_t>(o * size.in + i)] += dy_value * x_value;
      }
    }
  }
  const auto expect_close = [](const std::vector<float>& actual, const std::vector<double>& exact) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < exact.size(); i++) {
      difference += (actual[i] - exact[i]) * (actual[i] - exact[i]);
      norm += exact[i] * exact[i];
    }
    EXPECT_LE(std::sqrt(difference), 1e-6 * std::sqrt(norm));
  };
  expect_close(y.values, y_exact);
  expect_close(dx.values, dx_exact);
  expect_close(dw.values, dw_exact);
}

TEST(Gemm, NeedsNoMoreWorkspaceThanItsLimit) {
  for (const int64_t tokens : {1, 100, 1024, 5000}) {
    for (const int64_t out : {1, 256, 512, 50257}) {
      for (const int64_t in : {1, 768, 3072, 100000}) {
        const size_t limit = size_t{1536} << 10;
        EXPECT_LE(gemm_nt_workspace_bytes(tokens, out, in), limit);
        EXPECT_LE(gemm_nn_workspace_bytes(tokens, out, in), limit);
        EXPECT_LE(gemm_tn_workspace_bytes(tokens, out, in), limit);
      }
    }
  }
}

}  // namespace
}  // namespace headrace::math

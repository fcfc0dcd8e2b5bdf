#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Grid;
using testing::Random;
using testing::Workspace;

struct Case {
  int64_t sequences;
  AttentionShape shape;

  int64_t tokens() const { return sequences * shape.sequence; }
  int64_t width() const { return shape.heads * shape.head_size; }
};

// One, odd and tile sizes, above and below the 128 queries and keys of a tile and the padded head sizes.
const Case kCases[] = {{2, {1, 1, 1}},     {1, {7, 2, 5}},    {2, {130, 3, 16}},  {1, {257, 2, 64}},
                       {1, {300, 1, 200}}, {1, {129, 1, 33}}, {1, {128, 1, 100}}, {1, {40, 1, 256}}};

struct Reference {
  Doubles out, log_sum_exp, dqkv;
};

// One head of one sequence, for attention_reference.
void reference_head(const Doubles& qkv, const Doubles& dout, const Case& c, int64_t s, int64_t h,
                    Reference& r) {
  const int64_t size = c.shape.head_size;
  const auto in = [&](int64_t t, int64_t part, int64_t k) {
    return static_cast<size_t>(((s * c.shape.sequence + t) * 3 + part) * c.width() + h * size + k);
  };
  const auto at = [&](int64_t t, int64_t k) {
    return static_cast<size_t>((s * c.shape.sequence + t) * c.width() + h * size + k);
  };
  const double scale = 1 / std::sqrt(static_cast<double>(size));
  for (int64_t i = 0; i < c.shape.sequence; i++) {
    Doubles p(static_cast<size_t>(i + 1)), dp(p.size());
    for (int64_t j = 0; j <= i; j++) {
      for (int64_t k = 0; k < size; k++)
        p[static_cast<size_t>(j)] += scale * qkv[in(i, 0, k)] * qkv[in(j, 1, k)];
    }
    const double most = *std::max_element(p.begin(), p.end());
    double sum = 0, product = 0;
    for (double& value : p) sum += value = std::exp(value - most);
    r.log_sum_exp[static_cast<size_t>((s * c.shape.sequence + i) * c.shape.heads + h)] = most + std::log(sum);
    for (int64_t j = 0; j <= i; j++) {
      const auto key = static_cast<size_t>(j);
      p[key] /= sum;
      for (int64_t k = 0; k < size; k++) {
        r.out[at(i, k)] += p[key] * qkv[in(j, 2, k)];
        dp[key] += dout[at(i, k)] * qkv[in(j, 2, k)];
        r.dqkv[in(j, 2, k)] += p[key] * dout[at(i, k)];
      }
      product += p[key] * dp[key];
    }
    for (int64_t j = 0; j <= i; j++) {
      const double ds = scale * p[static_cast<size_t>(j)] * (dp[static_cast<size_t>(j)] - product);
      for (int64_t k = 0; k < size; k++) {
        r.dqkv[in(i, 0, k)] += ds * qkv[in(j, 1, k)];
        r.dqkv[in(j, 1, k)] += ds * qkv[in(i, 0, k)];
      }
    }
  }
}

Reference attention_reference(const Doubles& qkv, const Doubles& dout, const Case& c) {
  Reference result{Doubles(static_cast<size_t>(c.tokens() * c.width())),
                   Doubles(static_cast<size_t>(c.tokens() * c.shape.heads)), Doubles(qkv.size())};
  for (int64_t s = 0; s < c.sequences; s++) {
    for (int64_t h = 0; h < c.shape.heads; h++) reference_head(qkv, dout, c, s, h, result);
  }
  return result;
}

struct Result {
  Grid out, log_sum_exp, dqkv;

  explicit Result(const Case& c)
      : out(c.tokens(), c.width(), 3),
        log_sum_exp(c.tokens(), c.shape.heads, 1),
        dqkv(c.tokens(), 3 * c.width(), 5) {}
};

// Both passes, `sequences` of them a call.
Result run(const Case& c, const Grid& qkv, const Grid& dout, int64_t sequences) {
  Result r(c);
  Workspace workspace(attention_workspace_bytes(c.shape));
  for (int64_t first = 0; first < c.tokens(); first += sequences * c.shape.sequence) {
    const int64_t count = std::min(sequences * c.shape.sequence, c.tokens() - first);
    const auto cut = [&](const auto& matrix) { return matrix.row_range(first, count); };
    attention(cut(qkv.view()), c.shape, cut(r.out.view()), cut(r.log_sum_exp.view()), workspace);
    attention_backward(cut(qkv.view()), c.shape, cut(r.out.view()), cut(r.log_sum_exp.view()),
                       cut(dout.view()), cut(r.dqkv.view()), workspace);
  }
  return r;
}

std::vector<float> all_values(const Result& r) {
  std::vector<float> values = r.out.values();
  for (const Grid* grid : {&r.log_sum_exp, &r.dqkv}) {
    for (const float value : grid->values()) values.push_back(value);
  }
  return values;
}

TEST(Attention, AgreesWithANaiveReference) {
  for (const Case& c : kCases) {
    Random random;
    const Grid qkv(random, c.tokens(), 3 * c.width(), 2), dout(random, c.tokens(), c.width(), 1);
    const Result actual = run(c, qkv, dout, c.sequences);
    const Reference expected =
        attention_reference(testing::widen(qkv.values()), testing::widen(dout.values()), c);
    SCOPED_TRACE(std::to_string(c.shape.sequence) + " tokens, head size " +
                 std::to_string(c.shape.head_size));
    EXPECT_LT(testing::distance(actual.out.values(), expected.out), 1e-6);
    EXPECT_LT(testing::distance(actual.log_sum_exp.values(), expected.log_sum_exp), 1e-6);
    EXPECT_LT(testing::distance(actual.dqkv.values(), expected.dqkv), 2e-6);
  }
}

TEST(Attention, StaysAccurateWhereScoresAreLarge) {
  const Case c{1, {200, 1, 64}};
  Random random;
  const Grid qkv(random, c.tokens(), 3 * c.width(), 0, 4), dout(random, c.tokens(), c.width());
  const Result actual = run(c, qkv, dout, 1);
  const Reference expected =
      attention_reference(testing::widen(qkv.values()), testing::widen(dout.values()), c);
  EXPECT_LT(testing::distance(actual.out.values(), expected.out), 1e-5);
  EXPECT_LT(testing::distance(actual.dqkv.values(), expected.dqkv), 1e-5);
}

TEST(Attention, ReferenceGradientIsThatOfItsOutput) {
  const Case c{2, {5, 2, 3}};
  Random random;
  const Doubles qkv = testing::widen(random.normals(c.tokens() * 3 * c.width()));
  const Doubles dout = testing::widen(random.normals(c.tokens() * c.width()));
  const Doubles numeric = testing::numeric_gradient(
      qkv, [&](const Doubles& at) { return testing::dot(attention_reference(at, dout, c).out, dout); });
  EXPECT_LT(testing::distance(attention_reference(qkv, dout, c).dqkv, numeric), 1e-8);
}

TEST(Attention, HasTheSameBitsForAnyThreadsAndTarget) {
  for (const Case& c : {Case{2, {70, 2, 20}}, Case{1, {290, 1, 64}}, Case{1, {130, 1, 72}}}) {
    Random random;
    const Grid qkv(random, c.tokens(), 3 * c.width()), dout(random, c.tokens(), c.width());
    testing::expect_same_bits_everywhere([&] { return all_values(run(c, qkv, dout, c.sequences)); });
  }
}

TEST(Attention, HasTheSameBitsForAnyMicroBatch) {
  const Case c{5, {150, 2, 24}};
  Random random;
  const Grid qkv(random, c.tokens(), 3 * c.width()), dout(random, c.tokens(), c.width());
  const std::vector<float> whole = all_values(run(c, qkv, dout, c.sequences));
  for (const int64_t sequences : {1, 2, 3}) {
    testing::expect_same_bits(all_values(run(c, qkv, dout, sequences)), whole,
                              std::to_string(sequences) + " sequences a call");
  }
}

TEST(Attention, DoesNotSeeLaterTokens) {
  const Case c{1, {200, 1, 16}};
  Random random;
  Grid qkv(random, c.tokens(), 3 * c.width());
  const Grid dout(random, c.tokens(), c.width());
  const std::vector<float> before = run(c, qkv, dout, 1).out.values();
  for (int64_t t = 137; t < c.tokens(); t++) {
    for (int64_t k = 0; k < 3 * c.width(); k++) qkv.at(t, k) = 100 * random.normal();
  }
  std::vector<float> after = run(c, qkv, dout, 1).out.values();
  const auto seen = static_cast<std::ptrdiff_t>(137 * c.width());
  testing::expect_same_bits({after.begin(), after.begin() + seen}, {before.begin(), before.begin() + seen},
                            "tokens before");
}

}  // namespace
}  // namespace headrace::math

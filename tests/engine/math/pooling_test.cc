#include "engine/math/pooling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "engine/train/graph.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using ::testing::ElementsAre;
using testing::Grid;
using testing::Random;

const std::vector<int64_t> kFirst{0, 1, 8, 600, 613};  // of graphs
constexpr int64_t kNodes = 613, kColumns = 37, kGraphs = 4;

double pooled(Pooling kind, const Doubles& x, int64_t g, int64_t c) {
  double sum = 0, most = -INFINITY;
  for (int64_t r = kFirst[size_t(g)]; r < kFirst[size_t(g) + 1]; r++) {
    sum += x[size_t(r * kColumns + c)];
    most = std::max(most, x[size_t(r * kColumns + c)]);
  }
  if (kind == Pooling::kMax) return most;
  return kind == Pooling::kSum ? sum : sum / double(kFirst[size_t(g) + 1] - kFirst[size_t(g)]);
}

TEST(Pool, AgreesWithANaiveReferenceAndItsSlopes) {
  for (const Pooling kind : {Pooling::kMean, Pooling::kMax, Pooling::kSum}) {
    Random random;
    const Grid x(random, kNodes, kColumns, 3), dy(random, kGraphs, kColumns, 1);
    Grid y(kGraphs, kColumns, 2), dx(kNodes, kColumns, 4);
    pool(kind, x.view(), kFirst, y.view());
    pool_backward(kind, x.view(), kFirst, dy.view(), dx.view());
    const Doubles values = testing::widen(x.values());
    Doubles expected, slopes;
    for (int64_t g = 0; g < kGraphs; g++)
      for (int64_t c = 0; c < kColumns; c++) expected.push_back(pooled(kind, values, g, c));
    for (int64_t g = 0; g < kGraphs; g++)
      for (int64_t r = kFirst[size_t(g)]; r < kFirst[size_t(g) + 1]; r++)
        for (int64_t c = 0; c < kColumns; c++) {
          const double upstream = double(dy.at(g, c));
          const double share = kind == Pooling::kSum ? 1
                               : kind == Pooling::kMean
                                   ? 1 / double(kFirst[size_t(g) + 1] - kFirst[size_t(g)])
                               : double(x.at(r, c)) == pooled(kind, values, g, c) ? 1
                                                                                  : 0;
          slopes.push_back(upstream * share);
        }
    EXPECT_LT(testing::distance(y.values(), expected), 1e-6);
    EXPECT_LT(testing::distance(dx.values(), slopes), 1e-6);
  }
}

TEST(Pool, GivesTheGradientOfEqualLargestValuesToTheFirst) {
  Grid x(3, 1), dy(1, 1), dx(3, 1);
  for (int64_t r = 0; r < 3; r++) x.at(r, 0) = r == 0 ? 1.0F : 2.0F;
  dy.at(0, 0) = 5;
  pool_backward(Pooling::kMax, x.view(), std::vector<int64_t>{0, 3}, dy.view(), dx.view());
  EXPECT_THAT(dx.values(), ElementsAre(0, 5, 0));
}

TEST(ChooseNodes, TakesTheHighestOfEachGraphAndOfEqualOnesTheFirst) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> scores{3, /**/ 1, 5, 5, 5, /**/ nan, -2, nan};
  const std::vector<int64_t> first{0, 1, 5, 8}, kept{0, 1, 3, 5};
  std::vector<int32_t> order(8), chosen(5);
  choose_nodes(scores.data(), first, kept, order, chosen);
  EXPECT_THAT(chosen, ElementsAre(0, 2, 3, 5, 6));
}

struct Gated {
  std::vector<int32_t> chosen;
  double value(const Doubles& x, const Doubles& p, const Doubles& weight, int64_t n) const {
    const double length = std::sqrt(testing::dot(p, p));
    double sum = 0;
    for (size_t i = 0; i < chosen.size(); i++) {
      double score = 0;
      for (int64_t c = 0; c < n; c++) score += x[size_t(chosen[i] * n + c)] * p[size_t(c)] / length;
      for (int64_t c = 0; c < n; c++)
        sum += weight[i * size_t(n) + size_t(c)] * x[size_t(chosen[i] * n + c)] * std::tanh(score);
    }
    return sum;
  }
};

TEST(GateNodes, BackwardAgreesWithFiniteDifferences) {
  constexpr int64_t kRows = 11, kWide = 19;
  Random random;
  const Grid x(random, kRows, kWide, 3, 0.4F);
  const Gated gated{.chosen = {0, 3, 4, 10}};
  const Grid dy(random, 4, kWide);
  const std::vector<float> p = random.normals(kWide);
  std::vector<float> scores(kRows), dp(kWide, 1.0F), slopes(4);
  Grid y(4, kWide), dx(kRows, kWide, 2);
  node_scores(x.view(), p.data(), scores.data());
  gate_nodes(x.view(), scores.data(), gated.chosen, y.view());
  gate_nodes_backward(x.view(), p.data(), scores.data(), gated.chosen, dy.view(), dx.view(), dp.data(),
                      slopes);
  const Doubles at = testing::widen(x.values()), direction = testing::widen(p),
                weight = testing::widen(dy.values());
  EXPECT_NEAR(testing::dot(weight, testing::widen(y.values())), gated.value(at, direction, weight, kWide),
              1e-5);
  EXPECT_LT(testing::distance(
                dx.values(),
                testing::numeric_gradient(
                    at, [&](const Doubles& moved) { return gated.value(moved, direction, weight, kWide); })),
            1e-5);
  for (float& value : dp) value -= 1;  // it is added to what is there
  EXPECT_LT(testing::distance(dp, testing::numeric_gradient(direction,
                                                            [&](const Doubles& moved) {
                                                              return gated.value(at, moved, weight, kWide);
                                                            })),
            1e-5);
}

TEST(Induce, KeepsTheEdgesBetweenChosenNodes) {
  const train::Graph graph(5, [](const train::Graph::EdgeVisitor& visit) {
    visit(0, 1);
    visit(1, 2);
    visit(2, 4);
    visit(4, 0);
  });
  const Adjacency whole = graph.adjacency();
  const std::vector<int32_t> chosen{0, 2, 4};
  std::vector<std::byte> memory(induced_bytes(5, 3, whole.first[5]));
  induce(whole, chosen, memory.data());
  const Adjacency part = induced(memory.data(), 3);
  EXPECT_THAT(std::vector<int64_t>(part.first, part.first + 4), ElementsAre(0, 2, 4, 7));
  EXPECT_THAT(std::vector<int32_t>(part.columns, part.columns + 7), ElementsAre(0, 2, 1, 2, 0, 1, 2));
  EXPECT_FLOAT_EQ(part.scale[0], float(1 / std::sqrt(2.0)));
  EXPECT_FLOAT_EQ(part.scale[2], float(1 / std::sqrt(3.0)));
}

TEST(PoolingKernels, HaveTheSameBitsForAnyThreadsAndTarget) {
  Random random;
  const Grid x(random, kNodes, kColumns, 1), dy(random, kGraphs, kColumns), dgated(random, 300, kColumns);
  const std::vector<float> p = random.normals(kColumns);
  const std::vector<int64_t> kept{0, 1, 4, 296, 300};
  testing::expect_same_bits_everywhere([&] {
    Grid y(kGraphs, kColumns), dx(kNodes, kColumns), gated(300, kColumns);
    pool(Pooling::kMean, x.view(), kFirst, y.view());
    pool_backward(Pooling::kMean, x.view(), kFirst, dy.view(), dx.view());
    std::vector<float> all = y.values(), scores(kNodes), dp(kColumns), slopes(300);
    for (const float value : dx.values()) all.push_back(value);
    std::vector<int32_t> order(kNodes), chosen(300);
    node_scores(x.view(), p.data(), scores.data());
    choose_nodes(scores.data(), kFirst, kept, order, chosen);
    gate_nodes(x.view(), scores.data(), chosen, gated.view());
    gate_nodes_backward(x.view(), p.data(), scores.data(), chosen, dgated.view(), dx.view(), dp.data(),
                        slopes);
    for (const auto& more : {scores, gated.values(), dx.values(), dp})
      all.insert(all.end(), more.begin(), more.end());
    return all;
  });
}

}  // namespace
}  // namespace headrace::math

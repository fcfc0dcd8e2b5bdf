#include "engine/math/sparse.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/train/graph.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Grid;
using testing::Random;

// Node 0 has every other one for a neighbour, so that its sum takes several chains.
train::Graph make_graph(uint64_t nodes) {
  Random random;
  std::vector<std::pair<uint32_t, uint32_t>> edges;
  for (uint64_t i = 1; i < nodes; i++) {
    edges.emplace_back(uint32_t(0), uint32_t(i));
    edges.emplace_back(uint32_t(random.below(int64_t(nodes))), uint32_t(i));
  }
  return train::Graph(nodes, [&](const train::Graph::EdgeVisitor& visit) {
    for (const auto& [from, to] : edges) visit(from, to);
  });
}

TEST(Aggregate, AgreesWithADenseProduct) {
  for (const auto& [nodes, columns] : {std::pair<int64_t, int64_t>{1, 1}, {5, 17}, {70, 64}, {700, 131}}) {
    Random random;
    const train::Graph graph = make_graph(uint64_t(nodes));
    const Adjacency a = graph.adjacency();
    const Grid x(random, nodes, columns, 3);
    Grid y(nodes, columns, 5);
    const std::vector<float> bias = random.normals(columns);
    aggregate(a, x.view(), bias.data(), y.view());
    std::vector<double> dense(size_t(nodes * nodes));
    for (int64_t i = 0; i < nodes; i++)
      for (int64_t at = a.first[i]; at < a.first[i + 1]; at++) dense[size_t(i * nodes + a.columns[at])] = 1;
    std::vector<double> degree(static_cast<size_t>(nodes));
    for (int64_t i = 0; i < nodes; i++)
      for (int64_t j = 0; j < nodes; j++) {
        EXPECT_EQ(dense[size_t(i * nodes + j)], dense[size_t(j * nodes + i)]);
        degree[size_t(i)] += dense[size_t(i * nodes + j)];
      }
    Doubles expected;
    for (int64_t i = 0; i < nodes; i++)
      for (int64_t c = 0; c < columns; c++) {
        double sum = double(bias[size_t(c)]);
        for (int64_t j = 0; j < nodes; j++)
          sum += dense[size_t(i * nodes + j)] / std::sqrt(degree[size_t(i)] * degree[size_t(j)]) *
                 double(x.at(j, c));
        expected.push_back(sum);
      }
    EXPECT_LT(testing::distance(y.values(), expected), 1e-6) << nodes;
  }
}

TEST(Aggregate, HasTheSameBitsForAnyThreadsAndTarget) {
  Random random;
  const train::Graph graph = make_graph(900);
  const Grid x(random, 900, 101, 3);
  testing::expect_same_bits_everywhere([&] {
    Grid y(900, 101);
    aggregate(graph.adjacency(), x.view(), nullptr, y.view());
    return y.values();
  });
}

}  // namespace
}  // namespace headrace::math

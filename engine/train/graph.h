// A graph in memory: who is whose neighbour, for layers that sum over neighbours.
//
// Edges have no direction and no weight: an edge counts once, however often and in whichever direction it is
// given, and every node is its own neighbour, once. Immutable once built; any thread.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "engine/math/sparse.h"

namespace headrace::train {

inline constexpr uint64_t kMostNodes = uint64_t{1} << 31;

class Graph {
 public:
  // Calls its argument for every edge.
  using EdgeVisitor = std::function<void(uint32_t from, uint32_t to)>;
  using EdgeSource = std::function<void(const EdgeVisitor&)>;

  // `edges` is called twice and must give the same edges each time, between nodes below `nodes`.
  // `graph_first`: where several graphs are one, the first node of each, and the number of nodes; empty: one
  // graph.
  Graph(uint64_t nodes, const EdgeSource& edges, std::vector<int64_t> graph_first = {});

  uint64_t nodes() const { return degree_scale_.size(); }
  uint64_t edges() const { return (neighbours_.size() - nodes()) / 2; }  // different ones, without loops
  uint64_t graphs() const { return graph_first_.size() - 1; }
  // First node of each graph, and the number of nodes behind the last: [graphs + 1].
  const std::vector<int64_t>& graph_first() const { return graph_first_; }
  // D^-1/2 (A + I) D^-1/2 (Kipf and Welling 2017).
  math::Adjacency adjacency() const;
  // What it takes, and what building it took at most for the edges that it was given.
  uint64_t memory_bytes() const { return memory_bytes_; }

 private:
  void sort_rows();

  std::vector<int64_t> first_;       // of each node in neighbours_, and its end
  std::vector<int32_t> neighbours_;  // of each node in ascending order, itself among them
  std::vector<float> degree_scale_;  // 1 / sqrt(number of neighbours)
  std::vector<int64_t> graph_first_;
  uint64_t memory_bytes_ = 0;
};

// `edges` drawn at random between `nodes`, to plan with; a function of the seed.
Graph draw_graph(uint64_t seed, uint64_t nodes, uint64_t edges, std::vector<int64_t> graph_first = {});

}  // namespace headrace::train

#include "engine/train/graph.h"

#include <algorithm>
#include <cmath>

#include "engine/math/random.h"
#include "storage/error.h"

namespace headrace::train {
namespace {

[[noreturn]] void changed() {
  throw Error(ErrorKind::kFailed, "the edges changed while they were read", "Start again");
}

}  // namespace

Graph::Graph(uint64_t nodes, const EdgeSource& edges, std::vector<int64_t> graph_first)
    : graph_first_(std::move(graph_first)) {
  HEADRACE_CHECK(nodes > 0 && nodes < kMostNodes);
  if (graph_first_.empty()) graph_first_ = {0, int64_t(nodes)};
  // Each node's number of places, itself included; summed up, where its row begins.
  first_.assign(nodes + 1, 1);
  first_[0] = 0;
  edges([&](uint32_t from, uint32_t to) {
    HEADRACE_CHECK(from < nodes && to < nodes);
    if (from == to) return;
    first_[from + 1]++;
    first_[to + 1]++;
  });
  for (uint64_t i = 0; i < nodes; i++) first_[i + 1] += first_[i];
  neighbours_.resize(size_t(first_[nodes]));
  std::vector<int64_t> next(first_.begin(), first_.end() - 1);
  for (uint64_t i = 0; i < nodes; i++) neighbours_[size_t(next[i]++)] = int32_t(i);
  edges([&](uint32_t from, uint32_t to) {
    if (from == to) return;
    if (next[from] == first_[from + 1] || next[to] == first_[to + 1]) changed();
    neighbours_[size_t(next[from]++)] = int32_t(to);
    neighbours_[size_t(next[to]++)] = int32_t(from);
  });
  for (uint64_t i = 0; i < nodes; i++)
    if (next[i] != first_[i + 1]) changed();
  memory_bytes_ = neighbours_.size() * sizeof(int32_t) + 2 * first_.size() * sizeof(int64_t) +
                  nodes * sizeof(float) + graph_first_.size() * sizeof(int64_t);
  sort_rows();
}

// Puts rows in order and takes repeated neighbours out.
void Graph::sort_rows() {
  const uint64_t nodes = first_.size() - 1;
  int64_t kept = 0;
  for (uint64_t i = 0; i < nodes; i++) {
    const auto begin = neighbours_.begin() + first_[i], end = neighbours_.begin() + first_[i + 1];
    std::sort(begin, end);
    first_[i] = kept;
    const auto unique_end = std::unique(begin, end);
    std::copy(begin, unique_end, neighbours_.begin() + kept);
    kept += unique_end - begin;
  }
  first_[nodes] = kept;
  neighbours_.resize(size_t(kept));
  degree_scale_.resize(nodes);
  for (uint64_t i = 0; i < nodes; i++)
    degree_scale_[i] = float(1 / std::sqrt(double(first_[i + 1] - first_[i])));
}

math::Adjacency Graph::adjacency() const {
  return {.first = first_.data(),
          .columns = neighbours_.data(),
          .scale = degree_scale_.data(),
          .rows = int64_t(nodes())};
}

Graph draw_graph(uint64_t seed, uint64_t nodes, uint64_t edges, std::vector<int64_t> graph_first) {
  const auto node = [&](uint64_t index) {
    return uint32_t(uint64_t{math::random_bits(seed, 1, index)} * nodes >> 32);
  };
  return Graph(
      nodes,
      [&](const Graph::EdgeVisitor& visit) {
        for (uint64_t i = 0; i < edges; i++) visit(node(2 * i), node(2 * i + 1));
      },
      std::move(graph_first));
}

}  // namespace headrace::train

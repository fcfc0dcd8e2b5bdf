// A data set of graphs: a folder of NumPy's arrays. Nodes are numbered from 0, rows of the arrays are nodes.
//
//   features.npy   [nodes, columns], numbers
//   edges.txt      a line an edge, "FROM TO"; lines that begin with '#' are comments. Or edges.npy [edges, 2]
//   labels.npy     [nodes], classes from 0
//   train_mask.npy, val_mask.npy, test_mask.npy    [nodes], truth values; without them all nodes are meant
//   graph_ids.npy  [nodes], 0, 0, ..., 1, 1, ...: the graph of each node; then labels and masks are [graphs]
//
// Training takes the rows of the train mask, evaluation those of the test mask. A step takes the whole graph,
// which stays in memory; the features stream: they become a frozen tensor of the run.
//
// Threads: the fetching functions may be called from several at once. Failure: Error (kUsage) that names file
// and row for edges to nodes that do not exist, labels out of range, sizes that disagree, classes without a
// row. That a feature is finite is seen when it is read.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/train/data_set.h"
#include "engine/train/graph.h"
#include "storage/npy_file.h"

namespace headrace::train {

struct GraphDataOptions {
  std::string path;
  bool training = true;
};

class GraphData : public DataSet {
 public:
  explicit GraphData(const GraphDataOptions& options);

  DataShape shape() const override {
    return {.samples = graph_->nodes(), .feature_columns = features_.columns(), .classes = classes_};
  }
  const Graph& graph() const { return *graph_; }
  bool of_graphs() const { return of_graphs_; }  // labels are the graphs', not the nodes'
  // A text that tells other nodes, features or edges, which a run keeps, from these.
  const std::string& content() const { return content_; }
  std::string description() const override;
  const std::string& fingerprint() const override { return fingerprint_; }
  void fetch(uint64_t step, BatchData& batch) const override;  // the whole of it
  uint64_t evaluation_batches() const override { return 1; }
  void fetch_evaluation(uint64_t, BatchData& batch) const override { fetch(0, batch); }
  void read_features(uint64_t first_row, std::span<float> values) const override;
  uint64_t memory_bytes() const override;

 private:
  void read_graph();
  std::vector<int64_t> read_graph_ids(std::string& hashes);
  void read_targets();
  void apply_mask(const std::string& name);

  storage::NpyFile features_;
  bool training_;
  std::shared_ptr<const Graph> graph_;
  bool of_graphs_ = false;
  uint64_t classes_ = 0;
  std::vector<int32_t> targets_;  // -1: not meant
  std::string content_, fingerprint_;
};

}  // namespace headrace::train

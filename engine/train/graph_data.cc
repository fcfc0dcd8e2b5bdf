#include "engine/train/graph_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "engine/math/gemm.h"
#include "engine/train/edge_list.h"
#include "storage/error.h"
#include "storage/file.h"
#include "storage/hasher.h"

namespace headrace::train {
namespace {

using storage::NpyFile;

constexpr uint64_t kFingerprintPart = 1 << 20;  // bytes at either end
constexpr int64_t kMostClasses = 1 << 16;

[[noreturn]] void refuse(const std::string& what, const std::string& advice) {
  throw Error(ErrorKind::kUsage, what, advice);
}

NpyFile open_features(const std::string& folder) {
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    refuse(fmt::format("{} is not a folder", folder),
           "Name a folder with features.npy, labels.npy and edges.txt or edges.npy");
  NpyFile file = NpyFile::open(folder + "/features.npy");
  if (file.shape().size() != 2 || file.elements() == 0)
    refuse(fmt::format("{} has the shape {}, not [nodes, columns]", file.path(), file.shape_text()),
           "Save an array of a row a node");
  if (file.rows() >= kMostNodes)
    refuse(fmt::format("{} has {} rows, and at most {} nodes are possible", file.path(), file.rows(),
                       kMostNodes - 1),
           "Take a part of the graph");
  return file;
}

// Of a whole file, or of its ends if it is large.
std::string hash_of(const std::string& path) {
  const storage::File file = storage::File::open(path, storage::OpenMode::kRead);
  const uint64_t bytes = file.size();
  storage::Hasher hasher;
  std::vector<std::byte> part(std::min(bytes, kFingerprintPart));
  for (const uint64_t offset : {uint64_t{0}, bytes - part.size()}) {
    file.pread_all(part, offset);
    hasher.add(part);
  }
  return fmt::format("{}-{}", bytes, hasher.hex());
}

// An array of `rows` integers.
std::vector<int64_t> read_column(const NpyFile& file, uint64_t rows, const char* of) {
  if (file.shape().size() > 2 || file.columns() != 1 || file.rows() != rows)
    refuse(fmt::format("{} has the shape {}, and there are {} {}", file.path(), file.shape_text(), rows, of),
           fmt::format("Save one number for each of the {}", of));
  std::vector<int64_t> values(rows);
  file.read_integers(0, values);
  return values;
}

}  // namespace

GraphData::GraphData(const GraphDataOptions& options)
    : DataSet(options.path), features_(open_features(options.path)), training_(options.training) {
  read_graph();
  read_targets();
}

void GraphData::read_graph() {
  const std::string edges = edge_file(path());
  std::string hashes = hash_of(features_.path()) + " " + hash_of(edges);
  std::vector<int64_t> graph_first = read_graph_ids(hashes);
  const uint64_t nodes = features_.rows();
  const auto of_one_graph = [&](uint32_t a, uint32_t b) {
    const auto graph_of = [&](uint32_t node) {
      return std::upper_bound(graph_first.begin(), graph_first.end(), int64_t(node)) - graph_first.begin();
    };
    if (graph_of(a) == graph_of(b)) return;
    refuse(
        fmt::format("{}: an edge leads from node {} to node {}, which belongs to another graph", edges, a, b),
        "Leave such edges out, or correct graph_ids.npy");
  };
  graph_ = std::make_shared<const Graph>(
      nodes,
      [&](const Graph::EdgeVisitor& visit) {
        read_edges(edges, nodes, [&](uint32_t a, uint32_t b) {
          if (of_graphs_) of_one_graph(a, b);
          visit(a, b);
        });
      },
      graph_first);
  storage::Hasher all;
  all.add_text(hashes);
  content_ = all.hex();
}

std::vector<int64_t> GraphData::read_graph_ids(std::string& hashes) {
  const std::string ids_path = path() + "/graph_ids.npy";
  std::error_code ignored;
  of_graphs_ = std::filesystem::exists(ids_path, ignored);
  if (!of_graphs_) return {};
  hashes += " " + hash_of(ids_path);
  const std::vector<int64_t> ids = read_column(NpyFile::open(ids_path), features_.rows(), "nodes");
  std::vector<int64_t> first;
  for (size_t i = 0; i < ids.size(); i++) {
    const auto graphs = int64_t(first.size());
    if (ids[i] == graphs)
      first.push_back(int64_t(i));
    else if (ids[i] != graphs - 1)
      refuse(fmt::format("{}: row {} has {} where {} or {} belongs", ids_path, i, ids[i], graphs - 1, graphs),
             "Number the graphs from 0, and order the nodes by them");
  }
  first.push_back(int64_t(ids.size()));
  return first;
}

void GraphData::read_targets() {
  const NpyFile labels = NpyFile::open(path() + "/labels.npy");
  const char* of = of_graphs_ ? "graphs" : "nodes";
  const std::vector<int64_t> values =
      read_column(labels, of_graphs_ ? graph_->graphs() : graph_->nodes(), of);
  targets_.reserve(values.size());
  for (size_t i = 0; i < values.size(); i++) {
    if (values[i] < 0 || values[i] >= kMostClasses)
      refuse(fmt::format("{}: row {} has the label {}, and classes are 0 to {} at most", labels.path(), i,
                         values[i], kMostClasses - 1),
             "Number the classes from 0");
    classes_ = std::max(classes_, uint64_t(values[i]) + 1);
    targets_.push_back(int32_t(values[i]));
  }
  const std::vector<int32_t> all = targets_;
  apply_mask(training_ ? "train_mask" : "test_mask");
  std::vector<uint64_t> rows(classes_), meant(classes_);
  for (const int32_t label : all) rows[size_t(label)]++;
  for (const int32_t label : targets_)
    if (label >= 0) meant[size_t(label)]++;
  for (uint64_t c = 0; c < classes_; c++) {
    if (rows[c] == 0)
      refuse(fmt::format("{}: class {} of {} has no row", labels.path(), c, classes_),
             "Number the classes from 0 without gaps");
    if (training_ && meant[c] == 0)
      refuse(fmt::format("{}/train_mask.npy: class {} of {} has no row to train on", path(), c, classes_),
             "Leave the class out, or take some of its rows into the mask");
  }
  storage::Hasher hasher;
  hasher.add_text(content_);
  hasher.add(std::as_bytes(std::span(targets_)));
  fingerprint_ = hasher.hex();
}

void GraphData::apply_mask(const std::string& name) {
  const std::string mask_path = fmt::format("{}/{}.npy", path(), name);
  std::error_code ignored;
  if (!std::filesystem::exists(mask_path, ignored)) return;
  const std::vector<int64_t> mask =
      read_column(NpyFile::open(mask_path), targets_.size(), of_graphs_ ? "graphs" : "nodes");
  for (size_t i = 0; i < mask.size(); i++) {
    if (mask[i] != 0 && mask[i] != 1)
      refuse(fmt::format("{}: row {} has {}, not 0 or 1", mask_path, i, mask[i]), "Save truth values");
    if (mask[i] == 0) targets_[i] = -1;
  }
  if (std::all_of(targets_.begin(), targets_.end(), [](int32_t target) { return target < 0; }))
    refuse(fmt::format("{} chooses no row", mask_path), "Set it for some of the rows");
}

std::string GraphData::description() const {
  const auto meant =
      std::count_if(targets_.begin(), targets_.end(), [](int32_t target) { return target >= 0; });
  return fmt::format("{} nodes of {} features, {} edges{}; {} of {} labels in {} classes", graph_->nodes(),
                     features_.columns(), graph_->edges(),
                     of_graphs_ ? fmt::format(", {} graphs", graph_->graphs()) : "", meant, targets_.size(),
                     classes_);
}

void GraphData::fetch(uint64_t, BatchData& batch) const {
  batch.seq = math::kPanel;
  batch.targets = targets_;
  batch.graph = graph_;
}

void GraphData::read_features(uint64_t first_row, std::span<float> values) const {
  features_.read_floats(first_row * features_.columns(), values);
  const auto wrong =
      std::find_if(values.begin(), values.end(), [](float value) { return !std::isfinite(value); });
  if (wrong == values.end()) return;
  const auto at = uint64_t(wrong - values.begin());
  refuse(fmt::format("{}: row {}, column {} is {}, not a finite number", features_.path(),
                     first_row + at / features_.columns(), at % features_.columns(), *wrong),
         "Replace such values first");
}

uint64_t GraphData::memory_bytes() const {
  return graph_->memory_bytes() + targets_.size() * sizeof(int32_t);
}

}  // namespace headrace::train

// What a graph convolutional network is: its configuration from a config.json, completed by the data.
//
// Input is hostile until checked. Failure: Error (kUsage).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/math/pooling.h"
#include "engine/train/data_set.h"
#include "engine/train/options.h"
#include "models/config_json.h"

namespace headrace::models {

struct GcnConfig {
  std::vector<uint64_t> hidden = {};  // columns behind each convolution but, classifying nodes, the last
  bool has_hidden = false;            // otherwise the option or the default says them
  double dropout = 0.5;               // behind each of them, while training
  bool has_dropout = false;           // otherwise the option or the default says it
  // Of graphs that are classified: how their nodes become a row, and which part of the nodes stays behind
  // each convolution (1: all).
  std::string pooling = "mean";
  double pool_ratio = 1;
  // Of the data; 0 and empty until they are known.
  uint64_t nodes = 0, features = 0, classes = 0, edges = 0;
  uint64_t graphs = 0;       // that are classified; 0: the nodes are
  std::string content = {};  // which graph and features

  math::Pooling pooling_kind() const;
  bool settled() const { return nodes > 0; }
};

GcnConfig gcn_config(const Json& json, const std::string& origin);
Json to_json(const GcnConfig& config);

// With what options and data say; Error (kUsage) where the configuration says something else. Without data,
// sizes that stand for some: those of the citation graph Cora.
GcnConfig settle_gcn(GcnConfig config, const train::RunOptions& run, const train::DataSet* data);

}  // namespace headrace::models

#include "models/gcn_family.h"

#include <nlohmann/json.hpp>

#include "engine/train/graph_data.h"
#include "models/gcn.h"
#include "models/gcn_config.h"

namespace headrace::models {
namespace {

constexpr const char* kOrigin = "the model's configuration";

// Nothing of the sizes: options, the data and then the defaults say them.
Json named(const std::string&) { return Json{{"model_type", "gcn"}}; }

Json complete(const Json& json, const std::string& origin, std::vector<std::string>&) {
  gcn_config(json, origin);
  return json;
}

Json settle(const Json& config, const train::RunOptions& run, const train::DataSet* data) {
  return to_json(settle_gcn(gcn_config(config, kOrigin), run, data));
}

std::unique_ptr<train::DataSet> open_graph(const Json&, const DataRequest& request) {
  return std::make_unique<train::GraphData>(
      train::GraphDataOptions{.path = request.path, .training = request.training});
}

std::unique_ptr<train::Model> build(const Json& config, const train::RunOptions&) {
  return make_gcn(gcn_config(config, kOrigin));
}

}  // namespace

ModelFamily gcn_family() {
  return {.type = "gcn",
          .names = {"gcn"},
          .help = "graph convolutional networks: classes of nodes, or of whole graphs",
          .options = {"hidden", "dropout"},
          .defaults = {{"lr", "0.01"},
                       {"weight-decay", "0.01"},
                       {"schedule", "constant"},
                       {"warmup", "0"},
                       {"beta2", "0.999"},
                       {"clip", "0"}},
          .by_name = named,
          .complete = complete,
          .settle = settle,
          .open = open_graph,
          .build = build};
}

}  // namespace headrace::models

#include "models/gcn_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "engine/train/graph_data.h"
#include "models/mlp_config.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::models {
namespace {

constexpr uint64_t kMostColumns = 1 << 20, kMostLayers = 1 << 10, kMostClasses = 1 << 16;

struct CountField {
  const char* name;
  uint64_t GcnConfig::*member;
  uint64_t most;
};

constexpr std::array<CountField, 5> kCounts{{{"nodes", &GcnConfig::nodes, train::kMostNodes - 1},
                                             {"features", &GcnConfig::features, kMostColumns},
                                             {"classes", &GcnConfig::classes, kMostClasses},
                                             {"edges", &GcnConfig::edges, uint64_t{1} << 40},
                                             {"graphs", &GcnConfig::graphs, train::kMostNodes - 1}}};
const std::array<std::pair<std::string, math::Pooling>, 3> kPoolings{
    {{"mean", math::Pooling::kMean}, {"max", math::Pooling::kMax}, {"sum", math::Pooling::kSum}}};

class Reader {
 public:
  Reader(const Json& json, const std::string& origin) : json_(json), origin_(origin) {}

  GcnConfig read() const {
    check_names();
    GcnConfig config;
    read_hidden(config);
    read_number("dropout", 0, train::kMostDropout, config.dropout);
    config.has_dropout = find("dropout") != nullptr;
    read_number("pool_ratio", 1e-6, 1, config.pool_ratio);
    for (const CountField& field : kCounts) {
      const Json* value = find(field.name);
      if (value != nullptr) config.*field.member = count(*value, field.name, 0, field.most);
    }
    read_text("pooling", config.pooling);
    read_text("content", config.content);
    if (std::none_of(kPoolings.begin(), kPoolings.end(),
                     [&](const auto& known) { return known.first == config.pooling; }))
      fail(fmt::format("pooling '{}' is not known", printable(config.pooling, 60)), "known: mean, max, sum");
    const bool complete = config.nodes > 0 && config.features > 0 && config.classes > 0;
    const bool none = config.nodes == 0 && config.features == 0 && config.classes == 0;
    if (!complete && !none)
      fail("it has some of nodes, features and classes", "leave them all out: the data say them");
    if (config.graphs > config.nodes) fail("it has more graphs than nodes", "leave both out");
    return config;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& advice) const {
    throw Error(ErrorKind::kUsage, fmt::format("{}: {}", origin_, problem), advice);
  }
  const Json* find(const char* name) const {
    const auto found = json_.find(name);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }
  void check_names() const {
    std::vector<std::string> known{"model_type", "hidden", "dropout", "pooling", "pool_ratio", "content"};
    for (const CountField& field : kCounts) known.emplace_back(field.name);
    for (const auto& [name, value] : json_.items()) {
      if (std::find(known.begin(), known.end(), name) != known.end()) continue;
      fail(fmt::format("'{}' is not known; {}", printable(name, 60), suggestion(name, known)),
           "correct the name, or remove it from the file");
    }
  }
  uint64_t count(const Json& value, const std::string& name, uint64_t least, uint64_t most) const {
    const bool whole = value.is_number_unsigned();
    if (!whole || value.get<uint64_t>() < least || value.get<uint64_t>() > most)
      fail(fmt::format("{} is {}, not a whole number from {} to {}", name, shown(value), least, most),
           "correct the file");
    return value.get<uint64_t>();
  }
  void read_hidden(GcnConfig& config) const {
    const Json* value = find("hidden");
    if (value == nullptr) return;
    if (!value->is_array() || value->size() > kMostLayers)
      fail(fmt::format("hidden is {}, not a list of sizes", shown(*value)), "write, as an example, [64, 64]");
    config.has_hidden = true;
    for (const Json& size : *value) config.hidden.push_back(count(size, "a size of hidden", 1, kMostColumns));
  }
  void read_number(const char* name, double low, double high, double& result) const {
    const Json* value = find(name);
    if (value == nullptr) return;
    const double number = value->is_number() ? value->get<double>() : NAN;
    if (!(number >= low && number <= high))
      fail(fmt::format("{} is {}, not a number from {} to {}", name, shown(*value), low, high),
           "correct the file");
    result = number;
  }
  void read_text(const char* name, std::string& result) const {
    const Json* value = find(name);
    if (value == nullptr) return;
    if (!value->is_string())
      fail(fmt::format("{} is {}, not a text", name, shown(*value)), "correct the file");
    result = value->get<std::string>();
  }

  const Json& json_;
  const std::string& origin_;
};

}  // namespace

math::Pooling GcnConfig::pooling_kind() const {
  for (const auto& [name, kind] : kPoolings)
    if (name == pooling) return kind;
  HEADRACE_CHECK(false, pooling);
}

GcnConfig gcn_config(const Json& json, const std::string& origin) { return Reader(json, origin).read(); }

Json to_json(const GcnConfig& config) {
  Json json;
  json["model_type"] = "gcn";
  json["hidden"] = config.hidden;
  json["dropout"] = config.dropout;
  json["pooling"] = config.pooling;
  json["pool_ratio"] = config.pool_ratio;
  for (const CountField& field : kCounts) json[field.name] = config.*field.member;
  json["content"] = config.content;
  return json;
}

GcnConfig settle_gcn(GcnConfig config, const train::RunOptions& run, const train::DataSet* data) {
  const auto refuse = [](const std::string& what, const std::string& advice) {
    throw Error(ErrorKind::kUsage, what, advice);
  };
  if (!run.hidden.empty()) {
    const auto widths = hidden_of(run.hidden).get<std::vector<uint64_t>>();
    if (config.has_hidden && config.hidden != widths)
      refuse("the model's hidden and --hidden say different widths", "say them once");
    config.hidden = widths;
  } else if (!config.has_hidden) {
    config.hidden = {64};
  }
  config.has_hidden = true;
  if (run.dropout) {
    if (config.has_dropout && config.dropout != *run.dropout)
      refuse("the model's dropout and --dropout say different rates", "say it once");
    config.dropout = *run.dropout;
  }
  if (data == nullptr) {
    if (config.settled()) return config;
    config.nodes = 2708;
    config.features = 1433;
    config.classes = 7;
    config.edges = 5278;
    return config;
  }
  const auto& graph = dynamic_cast<const train::GraphData&>(*data);  // what the family opens
  GcnConfig settled = config;
  settled.nodes = graph.graph().nodes();
  settled.features = graph.shape().feature_columns;
  settled.classes = graph.shape().classes;
  settled.edges = graph.graph().edges();
  settled.graphs = graph.of_graphs() ? graph.graph().graphs() : 0;
  settled.content = graph.content();
  if (settled.graphs == 0 && config.pool_ratio < 1)
    refuse("pool_ratio is below 1 and there are no graphs to classify, whose nodes could be left out",
           "leave pool_ratio out, or give the data a graph_ids.npy");
  if (settled.features > kMostColumns)
    refuse(fmt::format("the data have {} features, and a model takes at most {}", settled.features,
                       kMostColumns),
           "take fewer features");
  if (settled.graphs > 0 && config.hidden.empty())
    refuse("graphs are classified behind one hidden layer at least", "name its size with hidden, as [64]");
  if (config.settled() && to_json(config) != to_json(settled))
    refuse(fmt::format("the data are another graph than that of the model: {}", data->description()),
           "evaluate and train on the graph whose features the run keeps");
  return settled;
}

}  // namespace headrace::models

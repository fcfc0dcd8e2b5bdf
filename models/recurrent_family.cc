#include "models/recurrent_family.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "engine/train/lane_data.h"
#include "models/recurrent_model.h"

namespace headrace::models {
namespace {

Json by_name(const std::string& name) { return to_json(RecurrentConfig{.cell = name}); }

Json complete(const Json& json, const std::string& origin, std::vector<std::string>&) {
  return to_json(parse_recurrent(json, origin));
}

Json settle_nothing(const Json& config, const train::RunOptions&, const train::DataSet*) { return config; }

std::unique_ptr<train::DataSet> open_lanes(const Json& config, const DataRequest& request) {
  if (!request.training) return std::make_unique<train::TextData>(text_options(config, request));
  return std::make_unique<train::LaneData>(text_options(config, request));
}

std::unique_ptr<train::Model> build(const Json& config, const train::RunOptions& run) {
  return make_recurrent(parse_recurrent(config, "the model's configuration"), run.batch);
}

}  // namespace

ModelFamily recurrent_family(const RecurrentCell& cell) {
  return {.type = cell.name,
          .names = {cell.name},
          .help = fmt::format("recurrent language models ({}) over lanes of text", cell.title),
          .options = {"seq", "tokenizer"},
          .defaults = {},
          .by_name = by_name,
          .complete = complete,
          .settle = settle_nothing,
          .open = open_lanes,
          .build = build};
}

}  // namespace headrace::models

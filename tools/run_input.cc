#include "tools/run_input.h"

#include <nlohmann/json.hpp>

#include "engine/train/run_options.h"
#include "models/gpt2.h"
#include "storage/error.h"

namespace headrace::tools {

std::string kept_json(const train::RunOptions& run, const models::Gpt2Config& config) {
  train::RunOptions kept = run;
  kept.data.clear();
  kept.model.clear();  // a path, perhaps; the configuration says what it is
  nlohmann::ordered_json json;
  json["model"] = nlohmann::ordered_json::parse(models::to_json(config));
  json["options"] = nlohmann::ordered_json::parse(train::run_options_json(kept));
  return json.dump();
}

models::Gpt2Config kept_config(const std::string& json) {
  const auto parsed = nlohmann::ordered_json::parse(json, nullptr, false);
  if (!parsed.is_object() || !parsed.contains("model")) {
    throw Error(ErrorKind::kCorrupt, "the model kept in the run's catalog cannot be read",
                "restore the run from a copy");
  }
  return models::parse_model(parsed["model"].dump(), "the run's catalog").gpt2;
}

RunInput make_run_input(const train::RunOptions& run, const train::SessionOptions& session,
                        const models::ModelConfig& config) {
  std::unique_ptr<train::Model> model = models::make_gpt2(config.gpt2);
  train::Model& reference = *model;
  return {std::move(model),
          {.run = run, .session = session, .model = reference, .model_json = kept_json(run, config.gpt2)}};
}

}  // namespace headrace::tools

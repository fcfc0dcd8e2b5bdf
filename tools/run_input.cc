#include "tools/run_input.h"

#include <filesystem>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "engine/train/run_options.h"
#include "storage/error.h"
#include "storage/json.h"
#include "storage/text.h"

namespace headrace::tools {
namespace {

// The run's directory, or where it will be: the nearest that exists.
std::string existing_folder(const std::string& path) {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(path, error);
  while (!std::filesystem::is_directory(folder, error) && folder.has_relative_path()) {
    folder = folder.parent_path();
  }
  return folder.string();
}

}  // namespace

std::unique_ptr<train::DataSet> open_run_data(const std::string& path, bool training,
                                              const train::RunOptions& run,
                                              const train::SessionOptions& session,
                                              const models::ModelConfig& config) {
  return models::open_data(
      config,
      {.path = path, .run = run, .training = training, .scratch_folder = existing_folder(session.run_dir)});
}

RunInput make_run_input(const train::RunOptions& run, const train::SessionOptions& session,
                        const models::ModelConfig& config, RunData data) {
  std::unique_ptr<train::Model> model = models::build_model(config, run);
  train::Model& reference = *model;
  const train::DataSet* training = data.training.get();
  const train::DataSet* evaluation = data.evaluation.get();
  return {std::move(model),
          std::move(data),
          {.run = run,
           .session = session,
           .model = reference,
           .model_json = kept_json(run, config),
           .data = training,
           .eval_data = evaluation}};
}

std::string kept_json(const train::RunOptions& run, const models::ModelConfig& config) {
  train::RunOptions kept = run;
  kept.data.clear();
  kept.model.clear();  // a path, perhaps; the configuration says what it is
  nlohmann::ordered_json json;
  json["model"] = nlohmann::ordered_json::parse(config.json);
  json["options"] = nlohmann::ordered_json::parse(train::run_options_json(kept));
  return json.dump();
}

models::ModelConfig kept_config(const std::string& json) {
  const auto parsed = parse_json<nlohmann::ordered_json>(json);
  if (!parsed.is_object() || !parsed.contains("model")) {
    throw Error(ErrorKind::kCorrupt, "the model kept in the run's catalog cannot be read",
                "restore the run from a copy");
  }
  return models::parse_model(parsed["model"].dump(), "the run's catalog");
}

train::RunOptions kept_options(const std::string& json) {
  const auto parsed = parse_json<nlohmann::ordered_json>(json);
  if (!parsed.is_object() || !parsed.contains("options")) return {};
  return train::run_options_from_json(parsed["options"].dump());
}

void expect_model(const std::string& model, const models::ModelConfig& config, const train::RunOptions& run,
                  const train::DataSet* data) {
  models::ModelConfig named = models::load_model(model);
  if (named.family == config.family) {
    models::settle(named, run, data);
    if (named.json == config.json) return;
  }
  throw Error(ErrorKind::kUsage, fmt::format("--model is {}, which is not the run's model", printable(model)),
              "leave the option out to go on with this run, or name another directory for a new one");
}

}  // namespace headrace::tools

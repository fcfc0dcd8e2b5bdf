// What the commands hand to the engine: the model of a run, its data, and the text that is kept with the run.
#pragma once

#include <memory>
#include <string>

#include "engine/train/trainer.h"
#include "models/registry.h"

namespace headrace::tools {

struct RunData {
  std::unique_ptr<train::DataSet> training, evaluation;  // null: none
};

struct RunInput {
  std::unique_ptr<train::Model> model;
  RunData data;
  train::TrainInput input;  // refers to both
};

// Opens what --data names, for training or evaluation. Compressed files are unpacked beside the run.
std::unique_ptr<train::DataSet> open_run_data(const std::string& path, bool training,
                                              const train::RunOptions& run,
                                              const train::SessionOptions& session,
                                              const models::ModelConfig& config);

// Builds the model of a settled configuration.
RunInput make_run_input(const train::RunOptions& run, const train::SessionOptions& session,
                        const models::ModelConfig& config, RunData data = {});

// What the catalog keeps of the run: configuration of the model and options, as JSON. Where the data lie is
// not part of it, what they are is.
std::string kept_json(const train::RunOptions& run, const models::ModelConfig& config);
// The configuration in it. Error (kCorrupt) when it cannot be read.
models::ModelConfig kept_config(const std::string& json);
// The options in it; the defaults where it holds none. Error (kCorrupt) likewise.
train::RunOptions kept_options(const std::string& json);

// `model`, as --model names it beside a run, must be the run's: `config`, which is settled with `run` and
// `data` (null: none at hand). Error (kUsage).
void expect_model(const std::string& model, const models::ModelConfig& config, const train::RunOptions& run,
                  const train::DataSet* data);

}  // namespace headrace::tools

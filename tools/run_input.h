// What train and eval hand to the engine: the model of a run and the text that is kept with the run.
#pragma once

#include <memory>
#include <string>

#include "engine/train/report.h"
#include "engine/train/trainer.h"
#include "models/model_config.h"

namespace headrace::tools {

struct RunInput {
  std::unique_ptr<train::Model> model;
  train::TrainInput input;  // refers to the model
};

// Builds the model. `config` is that of options.model.
RunInput make_run_input(const train::RunOptions& run, const train::SessionOptions& session,
                        const models::ModelConfig& config);

// What the catalog keeps of the run: configuration of the model and options, as JSON. Where the data lie is
// not part of it, what they are is.
std::string kept_json(const train::RunOptions& run, const models::Gpt2Config& config);
// The configuration in it. Error (kCorrupt) when it cannot be read.
models::Gpt2Config kept_config(const std::string& json);

}  // namespace headrace::tools

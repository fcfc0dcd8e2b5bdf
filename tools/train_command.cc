#include <filesystem>
#include <utility>

#include "engine/train/run_options.h"
#include "engine/train/trainer.h"
#include "storage/run_description.h"
#include "storage/store.h"
#include "tools/commands.h"
#include "tools/eval_report.h"
#include "tools/memory_limit.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/run_input.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

bool has_config(const std::string& run_dir) {
  std::error_code ignored;
  return std::filesystem::exists(train::run_config_path(run_dir), ignored);
}

// Completes the request, and says what is trained: of a run that is there, what its catalog keeps.
models::ModelConfig complete(TrainRequest& request) {
  const uint64_t available = request.session.memory_bytes != 0 ? 0 : available_memory().bytes;
  const std::string& run_dir = request.session.run_dir;
  if (!storage::Store::exists(run_dir)) {
    complete_for_new_run(request, available);
    return models::load_model(request.run.model);
  }
  complete_for_existing_run(request, options_of_run(run_dir), available);
  train::require_data(request.run);
  models::ModelConfig config = kept_config(storage::describe_run(run_dir).model_json);
  config.name = request.run.model;
  return config;
}

// The data are those that the run was made with, or from now on those of the run.
RunData settle_data(TrainRequest& request, models::ModelConfig& config) {
  train::RunOptions& run = request.run;
  RunData data;
  data.training = open_run_data(run.data, true, run, request.session, config);
  if (run.data_fingerprint.empty()) {
    run.data_fingerprint = data.training->fingerprint();
  } else {
    data.training->expect_fingerprint(run.data_fingerprint);
  }
  models::settle(config, run, data.training.get());
  if (!request.session.eval_data.empty()) {
    data.evaluation = open_run_data(request.session.eval_data, false, run, request.session, config);
    models::settle(config, run, data.evaluation.get());
  }
  return data;
}

}  // namespace

void run_train(const std::vector<std::string>& arguments) {
  TrainArguments parsed = parse_train_arguments(arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  TrainRequest& request = parsed.request;
  const std::string model = request.given.contains("model") ? request.run.model : "";
  models::ModelConfig config = complete(request);
  RunData data = settle_data(request, config);
  if (!model.empty() && storage::Store::exists(request.session.run_dir))
    expect_model(model, config, request.run, data.training.get());

  if (terminal_style().is_terminal) request.session.wait_for_space = true;  // somebody can make room
  std::atomic<int>& stop = watch_for_stop();
  Progress progress({request.json, request.quiet, terminal_style()}, request.session.steps, stop);
  for (const std::string& note : config.notes) progress.narrate(note);
  const RunInput run = make_run_input(request.run, request.session, config, std::move(data));
  progress.set_rows(run.model->row_name());
  const train::TrainSummary summary = train::train(run.input, progress, stop);
  if (!has_config(request.session.run_dir)) train::write_run_config(request.session.run_dir, request.run);
  progress.clear();
  progress.finish(request.json ? summary_json(summary) + "\n" : render_summary(summary));
}

}  // namespace headrace::tools

#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <limits>
#include <utility>

#include "engine/train/run_options.h"
#include "engine/train/training_plan.h"
#include "storage/error.h"
#include "storage/run_description.h"
#include "storage/space.h"
#include "storage/store.h"
#include "storage/text.h"
#include "tools/commands.h"
#include "tools/memory_limit.h"
#include "tools/options.h"
#include "tools/plan_report.h"
#include "tools/run_input.h"

namespace headrace::tools {
namespace {

struct PlanArguments {
  std::string help;
  TrainRequest request;
  std::optional<uint64_t> endurance_bytes;
};

CommandSpec plan_spec() {
  CommandSpec spec = train_spec();
  spec.name = "plan";
  spec.description =
      "Says what a training would take of memory, disk and time, and writes nothing. Takes the options of "
      "train; needs neither RUN nor text.";
  spec.positional_help = "the directory of the run, which may exist";
  spec.positional_optional = true;
  for (CommandOption& option : spec.options)
    if (option.name == "json") option.help = "one JSON object";
  spec.options.push_back({"endurance", "SIZE", "what each drive may be written in its life, as rated: 600TB",
                          false, false, "Options of plan"});
  spec.footer = "\nExit status: 0 the training fits, 2 usage, 3 too little memory or disk space.";
  return spec;
}

PlanArguments parse_plan_arguments(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(plan_spec(), arguments);
  PlanArguments result;
  result.help = parsed.help;
  if (!parsed.help.empty()) return result;
  apply_train_options(parsed, result.request);
  for (const GivenOption& option : parsed.options) {
    if (option.name != "endurance") continue;
    uint64_t bytes = 0;
    const std::string problem = train::set_size(option.text, 1, std::numeric_limits<uint64_t>::max(), bytes);
    if (!problem.empty())
      throw Error(ErrorKind::kUsage, "--endurance: " + problem,
                  "give what the drive's data sheet calls TBW, as 600TB");
    result.endurance_bytes = bytes;
  }
  return result;
}

// The run as it is; its data may be gone.
models::ModelConfig complete_existing(TrainRequest& request, uint64_t available_bytes, RunData& data,
                                      std::vector<std::string>& notes) {
  complete_for_existing_run(request, options_of_run(request.session.run_dir), available_bytes);
  train::RunOptions& run = request.run;
  models::ModelConfig config = kept_config(storage::describe_run(request.session.run_dir).model_json);
  config.name = run.model;
  try {
    data.training = open_run_data(run.data, true, run, request.session, config);
  } catch (const Error& error) {
    notes.push_back(
        fmt::format("the run's data cannot be used, drawn ones take their place: {}", error.what()));
    return config;
  }
  data.training->expect_fingerprint(run.data_fingerprint);
  return config;
}

void require_space(const train::TrainingPlan& plan) {
  std::vector<storage::SpaceNeeded> needed;
  for (const train::PlannedDrive& drive : plan.drives)
    needed.push_back({drive.directory, drive.needed_bytes, drive.free_bytes});
  storage::require_space(needed);
}

}  // namespace

void run_plan(const std::vector<std::string>& arguments) {
  PlanArguments parsed = parse_plan_arguments(arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  TrainRequest& request = parsed.request;
  const uint64_t available = request.session.memory_bytes != 0 ? 0 : available_memory().bytes;
  std::vector<std::string> notes;
  models::ModelConfig config;
  RunData data;
  const std::string named = request.session.run_dir,
                    model = request.given.contains("model") ? request.run.model : "";
  if (!named.empty() && storage::Store::exists(named)) {
    config = complete_existing(request, available, data, notes);
    if (!model.empty()) expect_model(model, config, request.run, data.training.get());
  } else {
    if (named.empty()) request.session.run_dir = ".";
    complete_for_plan(request, available);
    config = models::load_model(request.run.model);
    if (!request.run.data.empty()) {
      data.training = open_run_data(request.run.data, true, request.run, request.session, config);
    }
  }
  models::settle(config, request.run, data.training.get());
  const RunInput run = make_run_input(request.run, request.session, config, std::move(data));
  const train::TrainingPlan plan = train::plan_training(run.input);
  if (!request.quiet) {
    notes.insert(notes.end(), config.notes.begin(), config.notes.end());
    notes.insert(notes.end(), plan.warnings.begin(), plan.warnings.end());
    for (const std::string& note : notes) std::fprintf(stderr, "%s\n", printable(note, 2000).c_str());
  }
  const PlanReport report{plan, named, request.run.model, request.session.steps, parsed.endurance_bytes};
  print_result(request.json ? plan_json(report) : plan_text(report));
  require_space(plan);
}

}  // namespace headrace::tools

#include "tools/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <limits>
#include <utility>

#include "engine/train/optimizer.h"
#include "engine/train/run_options.h"
#include "models/registry.h"
#include "storage/codec.h"
#include "storage/error.h"
#include "storage/run_description.h"
#include "storage/text.h"
#include "tools/run_input.h"

namespace headrace::tools {
namespace {

using train::OptionEntry;
using train::OptionType;
using Session = train::SessionOptions;

constexpr uint64_t kMostSteps = 1ULL << 40;

// An entry over a part of the request as an entry over the request.
template <typename Part>
OptionEntry<TrainRequest> lift(OptionEntry<Part> entry, Part TrainRequest::*part) {
  return {entry.name,
          entry.type,
          entry.metavar,
          entry.help,
          entry.choices,
          [=](TrainRequest& r, const std::string& text) { return entry.set(r.*part, text); },
          [=](const TrainRequest& r) { return entry.get(r.*part); }};
}

OptionEntry<TrainRequest> threads_option() {
  return {"threads",
          OptionType::kCount,
          "N",
          "threads that compute; 0: all cores this process may use",
          {},
          [](TrainRequest& r, const std::string& text) {
            uint64_t count = 0;
            std::string problem = train::set_count(text, 0, 4096, count);
            if (problem.empty()) r.session.threads = static_cast<uint32_t>(count);
            return problem;
          },
          [](const TrainRequest& r) { return std::to_string(r.session.threads); }};
}

OptionEntry<TrainRequest> shard_dir_option() {
  return {"shard-dir",
          OptionType::kTextList,
          "DIR",
          "a directory for a shard of the run, one on each drive; may be repeated",
          {},
          [](TrainRequest& r, const std::string& text) {
            if (r.session.shard_dirs.size() >= 256) return std::string("is given more than 256 times");
            std::string directory;
            std::string problem = train::set_text(text, directory);
            if (problem.empty()) r.session.shard_dirs.push_back(directory);
            return problem;
          },
          [](const TrainRequest&) { return std::string{}; }};
}

std::vector<TrainOption> make_options() {
  std::vector<TrainOption> options;
  for (const train::RunOption& option : train::run_option_table()) {
    const bool hidden = option.name == "data-fingerprint";
    options.push_back({lift(option, &TrainRequest::run), true, hidden});
  }
  auto session = [&](OptionEntry<Session> entry) {
    options.push_back({lift(std::move(entry), &TrainRequest::session), false, false});
  };
  session(
      train::size_option("memory", &Session::memory_bytes, 1, std::numeric_limits<uint64_t>::max() >> 1,
                         "the budget of the whole process (default: three quarters of what is available)"));
  session(train::count_option("steps", &Session::steps, 1, kMostSteps,
                              "the total: a resumed run ends at the same step"));
  options.push_back({threads_option(), false, false});
  session(train::choice_option<Session, storage::IoBackend>("io", &Session::io,
                                                            {{"auto", storage::IoBackend::kAuto},
                                                             {"uring", storage::IoBackend::kUring},
                                                             {"threads", storage::IoBackend::kThreads}},
                                                            "how blocks are read and written"));
  options.push_back({shard_dir_option(), false, false});
  session(train::text_option("eval-data", &Session::eval_data, "FILE", "text for --eval-every"));
  session(train::count_option("eval-every", &Session::eval_every, 0, kMostSteps,
                              "evaluate on --eval-data every so many steps; 0: never"));
  session(train::choice_option<Session, train::OnNan>(
      "on-nan", &Session::on_nan, {{"stop", train::OnNan::kStop}, {"skip", train::OnNan::kSkip}},
      "at a step whose loss or gradient is not finite: stop before it counts, or go on without its update"));
  session(
      train::switch_option("wait-for-space", &Session::wait_for_space,
                           "a full disk pauses the training until there is room, as it does on a terminal"));
  session(train::count_option("checkpoint-every", &Session::checkpoint_every, 0, kMostSteps,
                              "save a checkpoint in RUN/checkpoints every so many steps; 0: never"));
  session(train::count_option("keep", &Session::keep, 0, kMostSteps,
                              "of these, keep so many of the newest; 0: all"));
  session(train::switch_option("checkpoint-weights-only", &Session::checkpoint_weights_only,
                               "save the weights without the optimizer's state"));
  session(train::count_option("checkpoint-level", &Session::checkpoint_level, storage::kLeastLevel,
                              storage::kMostLevel, "zstd's level for checkpoints"));
  session(train::count_option("checkpoint-threads", &Session::checkpoint_threads, 0, 4096,
                              "threads that compress checkpoints at a time; 0: all that compute"));
  options.push_back(
      {train::switch_option("json", &TrainRequest::json, "one JSON object a step, and one in the end"), false,
       false});
  options.push_back(
      {train::switch_option("quiet", &TrainRequest::quiet, "no narration and no progress"), false, false});
  return options;
}

const TrainOption* find_option(const std::string& name) {
  const auto& options = train_options();
  const auto found = std::find_if(options.begin(), options.end(),
                                  [&](const TrainOption& option) { return option.entry.name == name; });
  return found == options.end() ? nullptr : &*found;
}

void set(const TrainOption& option, const std::string& text, const std::string& where,
         TrainRequest& request) {
  const std::string problem = option.entry.set(request, text);
  if (!problem.empty()) {
    throw Error(ErrorKind::kUsage, fmt::format("{}: {}", where, problem), "see headrace train --help");
  }
  request.given[option.entry.name] = where;
}

bool types_agree(OptionType option, ConfigValueType value) {
  switch (option) {
    case OptionType::kText:
    case OptionType::kChoice:
      return value == ConfigValueType::kText;
    case OptionType::kCount:
      return value == ConfigValueType::kInteger;
    case OptionType::kSize:
      return value == ConfigValueType::kText || value == ConfigValueType::kInteger;
    case OptionType::kNumber:
      return value == ConfigValueType::kInteger || value == ConfigValueType::kNumber;
    case OptionType::kTextList:
      return value == ConfigValueType::kText || value == ConfigValueType::kTextList;
    case OptionType::kSwitch:
      return value == ConfigValueType::kSwitch;
  }
  return false;
}

std::string wanted(OptionType option) {
  switch (option) {
    case OptionType::kText:
    case OptionType::kChoice:
      return "a text in quotes";
    case OptionType::kCount:
      return "a whole number";
    case OptionType::kSize:
      return "a size such as \"512MiB\"";
    case OptionType::kNumber:
      return "a number";
    case OptionType::kTextList:
      return "a list of texts";
    case OptionType::kSwitch:
      return "true or false";
  }
  return {};
}

// A path of the user's, so that the run finds the file from any working directory.
std::string absolute(const std::string& path) {
  std::error_code error;
  const auto result = std::filesystem::absolute(path, error);
  return error ? path : result.lexically_normal().string();
}

std::string absolute_model(const std::string& model) {
  const auto names = models::model_names();
  return std::find(names.begin(), names.end(), model) != names.end() ? model : absolute(model);
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void apply_defaults(const std::vector<std::pair<std::string, std::string>>& defaults, TrainRequest& request) {
  for (const auto& [name, text] : defaults) {
    if (request.given.contains(name)) continue;
    const TrainOption* option = find_option(name);
    HEADRACE_CHECK(option != nullptr && option->entry.set(request, text).empty(), name);
  }
}

// Options that the model's family has other defaults for, and those that only other families take.
void apply_family(const models::ModelFamily& family, TrainRequest& request) {
  for (const models::ModelFamily& other : models::model_families()) {
    for (const std::string& name : other.options) {
      const auto given = request.given.find(name);
      if (given == request.given.end() || contains(family.options, name)) continue;
      throw Error(ErrorKind::kUsage,
                  fmt::format("{} does not apply to the model {}", given->second, family.type),
                  fmt::format("leave it out; {} takes {}", family.type, joined(family.options)));
    }
  }
  apply_defaults(family.defaults, request);
}

void complete_session(TrainRequest& request, uint64_t available_bytes) {
  if (request.session.memory_bytes == 0) request.session.memory_bytes = available_bytes / 4 * 3;
  if (request.session.eval_every > 0 && request.session.eval_data.empty()) {
    throw Error(ErrorKind::kUsage, "--eval-every was given without --eval-data",
                "name the text to evaluate on with --eval-data FILE");
  }
}

}  // namespace

const std::vector<TrainOption>& train_options() {
  static const std::vector<TrainOption> options = make_options();
  return options;
}

void apply_config(const std::vector<ConfigEntry>& entries, TrainRequest& request) {
  std::vector<std::string> names;
  for (const TrainOption& option : train_options()) {
    if (!option.hidden) names.push_back(option.entry.name);
  }
  for (const ConfigEntry& entry : entries) {
    const TrainOption* option = find_option(entry.key);
    if (option == nullptr) {
      const std::string near = nearest_name(entry.key, names);
      throw Error(ErrorKind::kUsage,
                  fmt::format("{}: unknown key '{}'{}", entry.place, printable(entry.key, 60),
                              near.empty() ? "" : fmt::format("; did you mean '{}'?", near)),
                  "keys are the names of the options in headrace train --help");
    }
    const std::string where = fmt::format("{}: {}", entry.place, entry.key);
    if (!types_agree(option->entry.type, entry.type)) {
      throw Error(
          ErrorKind::kUsage,
          fmt::format("{}: is {}, and must be {}", where, type_name(entry.type), wanted(option->entry.type)),
          "correct the configuration file");
    }
    for (const std::string& text : entry.texts) set(*option, text, where, request);
  }
}

void apply_options(const std::vector<GivenOption>& options, TrainRequest& request) {
  const auto is_list = [](const GivenOption& option) { return option.name == "shard-dir"; };
  if (std::any_of(options.begin(), options.end(), is_list)) request.session.shard_dirs.clear();
  for (const GivenOption& option : options) {
    const TrainOption* known = find_option(option.name);
    HEADRACE_CHECK(known != nullptr, option.name);
    set(*known, option.text, "--" + option.name, request);
  }
}

CommandSpec train_spec() {
  CommandSpec spec;
  spec.name = "train";
  spec.description = "Trains a model. RUN is created, or resumed where it stopped.";
  spec.positional = "RUN";
  spec.positional_help = "the directory of the run";
  spec.options.push_back({"config", "FILE",
                          "a TOML file with options by these names; the command line wins over it", false,
                          false, "Options"});
  const TrainRequest defaults;
  for (const TrainOption& option : train_options()) {
    std::string help = option.entry.help;
    const std::string value = option.entry.get(defaults);
    const bool shown = option.entry.type != OptionType::kSwitch && option.entry.name != "memory" &&
                       option.entry.name != "steps" && option.entry.name != "min-lr";
    if (shown && !value.empty()) help += fmt::format(" [{}]", value);
    if (option.entry.name == "min-lr") help += " [a tenth of --lr]";
    spec.options.push_back({option.entry.name, option.entry.metavar, help,
                            option.entry.type == OptionType::kTextList, option.hidden,
                            option.belongs_to_run ? "Options of a new run" : "Options of every session"});
  }
  spec.footer =
      "\nExit status: 0 done, 1 failed, 2 usage or configuration, 3 refused before starting, 4 corruption "
      "found.\n"
      "Ctrl-C finishes and commits the step in flight; a second one stops at once and loses only that step.";
  return spec;
}

TrainArguments parse_train_arguments(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(train_spec(), arguments);
  TrainArguments result;
  result.help = parsed.help;
  if (!parsed.help.empty()) return result;
  apply_train_options(parsed, result.request);
  return result;
}

void apply_train_options(const Arguments& parsed, TrainRequest& request) {
  std::vector<GivenOption> options;
  for (const GivenOption& option : parsed.options) {
    if (option.name == "config") apply_config(read_config_file(option.text), request);
    if (find_option(option.name) != nullptr) options.push_back(option);
  }
  apply_options(options, request);
  request.session.run_dir = parsed.positional;
}

void complete_for_new_run(TrainRequest& request, uint64_t available_bytes) {
  if (request.session.steps == 0) {
    throw Error(ErrorKind::kUsage, "a new run was not told how long to train", "say it with --steps N");
  }
  complete_for_plan(request, available_bytes);
  train::require_data(request.run);
}

void complete_for_plan(TrainRequest& request, uint64_t available_bytes) {
  train::RunOptions& run = request.run;
  if (!request.given.contains("model")) {
    throw Error(ErrorKind::kUsage, "a new run was not told which model to train",
                fmt::format("say it with --model M: one of {}, a config.json, or a folder that holds one",
                            joined(models::model_names())));
  }
  models::ModelConfig config = models::load_model(run.model);
  apply_family(*config.family, request);
  apply_optimizer(train::optimizer_family(run), request);
  if (!request.given.contains("min-lr")) run.min_lr = run.lr / 10;
  if (run.schedule_steps == 0) run.schedule_steps = request.session.steps;
  train::check_run_options(run);
  models::settle(config, run, nullptr);  // what options alone can show to be wrong
  run.model = absolute_model(run.model);
  if (!run.data.empty()) run.data = absolute(run.data);
  complete_session(request, available_bytes);
}

void complete_for_existing_run(TrainRequest& request, const train::RunOptions& run,
                               uint64_t available_bytes) {
  TrainRequest of_run;
  of_run.run = run;
  std::string data = run.data;
  if (request.given.contains("data")) data = absolute(request.run.data);  // moved, perhaps
  for (const TrainOption& option : train_options()) {
    const auto given = request.given.find(option.entry.name);
    if (!option.belongs_to_run || given == request.given.end() || option.entry.name == "data" ||
        option.entry.name == "model")
      continue;  // compared by what they are
    const std::string asked = option.entry.get(request);
    const std::string has = option.entry.get(of_run);
    if (asked == has) continue;
    throw Error(ErrorKind::kUsage,
                fmt::format("{} is {}, but the run {} was made with {}", given->second, asked,
                            request.session.run_dir, has),
                "leave the option out to go on with this run, or name another directory for a new one");
  }
  const std::string model =
      run.model.empty() && request.given.contains("model") ? absolute_model(request.run.model) : run.model;
  request.run = run;
  request.run.data = data;
  request.run.model = model;
  if (request.session.steps == 0) request.session.steps = run.schedule_steps;
  complete_session(request, available_bytes);
}

void apply_optimizer(const train::OptimizerFamily& family, TrainRequest& request) {
  for (const train::OptimizerFamily& other : train::optimizer_families()) {
    for (const std::string& name : other.options) {
      const auto given = request.given.find(name);
      if (given == request.given.end() || contains(family.options, name)) continue;
      throw Error(ErrorKind::kUsage,
                  fmt::format("{} does not apply to the optimizer {}", given->second, family.name),
                  fmt::format("leave it out, or give --optimizer {}; {} takes {}", other.name, family.name,
                              joined(family.options)));
    }
  }
  apply_defaults(family.defaults, request);
}

train::RunOptions read_run_config(const std::string& run_dir) {
  TrainRequest request;
  try {
    apply_config(read_config_file(train::run_config_path(run_dir)), request);
    train::check_run_options(request.run);
    train::require_data(request.run);
  } catch (const Error& error) {
    throw Error(ErrorKind::kCorrupt, fmt::format("the run's configuration cannot be used: {}", error.what()),
                "put config.toml back as it was when the run was created");
  }
  return request.run;
}

train::RunOptions options_of_run(const std::string& run_dir) {
  std::error_code ignored;
  if (std::filesystem::exists(train::run_config_path(run_dir), ignored)) return read_run_config(run_dir);
  return kept_options(storage::describe_run(run_dir).model_json);
}

}  // namespace headrace::tools

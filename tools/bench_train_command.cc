// headrace bench DIR... --pattern train: the transfers of a model's training steps, without the mathematics.
#include "tools/bench_train_command.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "engine/train/rehearsal.h"
#include "storage/error.h"
#include "storage/text.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/memory_limit.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/run_input.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

constexpr uint64_t kChosenSteps = 3, kMostSteps = 1000;

bool belongs_here(const std::string& name) {
  static const std::set<std::string> names{"config",    "model",        "batch",   "seq",    "micro-batch",
                                           "clip",      "weights",      "seed",    "memory", "block-size",
                                           "optimizer", "commit-every", "threads", "io",     "json",
                                           "quiet",     "steps"};
  return names.contains(name);
}

CommandSpec bench_train_spec() {
  CommandSpec spec = train_spec();
  std::erase_if(spec.options, [](const CommandOption& option) { return !belongs_here(option.name); });
  for (CommandOption& option : spec.options) {
    option.group = "Options";
    if (option.name == "steps")
      option.help = fmt::format("that are measured, after two others [{}]", kChosenSteps);
    if (option.name == "json") option.help = "one JSON object";
  }
  spec.name = "bench";
  spec.description =
      "Carries out a model's training steps with all their transfers and none of their mathematics, in files "
      "of "
      "its own that are removed in the end. Takes options of train.";
  spec.positional = "DIR";
  spec.positional_repeatable = true;
  spec.positional_help = "a directory on the drive to be measured; several: the model is spread over them";
  spec.options.push_back(
      {"pattern", "train", "this; headrace bench --help names others", false, false, "Options"});
  spec.footer = "\nExit status: 0 done, 1 failed or stopped, 2 usage, 3 too little memory or space.";
  return spec;
}

// A directory of its own in each of those that were named; gone with all in it in the end.
class OwnDirectories {
 public:
  explicit OwnDirectories(const std::vector<std::string>& parents) {
    for (const std::string& parent : parents) {
      std::string path = parent + "/headrace-bench-XXXXXX";
      if (::mkdtemp(path.data()) == nullptr) {
        const int error_number = errno;
        remove();
        throw Error(
            error_number == ENOENT || error_number == ENOTDIR ? ErrorKind::kUsage : ErrorKind::kRefused,
            fmt::format("cannot make a directory in {}: {}", parent, system_text(error_number)),
            "Name an existing directory that you may write to");
      }
      paths_.push_back(path);
    }
  }
  ~OwnDirectories() { remove(); }
  OwnDirectories(const OwnDirectories&) = delete;
  OwnDirectories& operator=(const OwnDirectories&) = delete;
  const std::vector<std::string>& paths() const { return paths_; }

 private:
  void remove() {
    std::error_code ignored;
    for (const std::string& path : paths_) std::filesystem::remove_all(path, ignored);
  }
  std::vector<std::string> paths_;
};

struct Times {
  double least = 0, median = 0, most = 0;  // seconds
};

Times times_of(const train::Rehearsal& rehearsal) {
  std::vector<double> seconds;
  for (const train::StepReport& step : rehearsal.steps) seconds.push_back(step.seconds);
  std::sort(seconds.begin(), seconds.end());
  return {seconds.front(), seconds[seconds.size() / 2], seconds.back()};
}

// Bytes a second over all measured steps.
double rate_of(const train::Rehearsal& rehearsal, uint64_t train::StepReport::*bytes) {
  double sum = 0, seconds = 0;
  for (const train::StepReport& step : rehearsal.steps) sum += double(step.*bytes), seconds += step.seconds;
  return seconds > 0 ? sum / seconds : 0;
}

uint64_t mean_of(const train::Rehearsal& rehearsal, uint64_t train::StepReport::*bytes) {
  uint64_t sum = 0;
  for (const train::StepReport& step : rehearsal.steps) sum += step.*bytes;
  return sum / rehearsal.steps.size();
}

std::string a_minute(double seconds) {
  const double steps = 60 / seconds;
  return fmt::format(fmt::runtime(steps >= 100 ? "{:.0f} steps a minute" : "{:.3g} steps a minute"), steps);
}

std::string text_of(const train::Rehearsal& r, const TrainRequest& request) {
  const Times times = times_of(r);
  const auto line = [](const char* name, const std::string& value) {
    return fmt::format("  {:<22}{}\n", name, value);
  };
  std::string text = fmt::format("Steps of {} within {}, without their mathematics:\n",
                                 printable(request.run.model), format_size(request.session.memory_bytes));
  text += line("state", fmt::format("{}, {} parameters", format_size(r.state_bytes),
                                    format_count(double(r.parameters))));
  text += line("a step has",
               fmt::format("{} {}, evenly drawn; {}", r.tokens, r.rows, r.preflight.policy.description()));
  text +=
      line("read", fmt::format("{} a step, {}B/s", format_size(mean_of(r, &train::StepReport::read_bytes)),
                               format_count(rate_of(r, &train::StepReport::read_bytes))));
  text += line("written",
               fmt::format("{} a step, {}B/s", format_size(mean_of(r, &train::StepReport::written_bytes)),
                           format_count(rate_of(r, &train::StepReport::written_bytes))));
  text +=
      line("the disk takes",
           fmt::format("{:.3g} s a step (least {:.3g}, most {:.3g} of {}), checksums and commits included: "
                       "{}",
                       times.median, times.least, times.most, r.steps.size(), a_minute(times.median)));
  text +=
      line("computing takes",
           fmt::format("{:.3g} s: {}FLOP at {}FLOP/s (the products alone, measured now)", r.compute_seconds,
                       format_count(r.preflight.flops), format_count(r.flops_per_second)));
  const double seconds = train::expected_step_seconds(r.compute_seconds, times.median);
  text += line("both", fmt::format("{} at most, {} {} a second", a_minute(seconds),
                                   format_count(double(r.tokens) / seconds), r.rows));
  text += line("bottleneck",
               times.median > r.compute_seconds ? "the disk" : "computing; the disk is hidden behind it");
  text += line("hiding the disk", r.hiding_tokens
                                      ? fmt::format("takes {} {} a step", *r.hiding_tokens, r.rows)
                                      : fmt::format("more {} a step do not, within this budget", r.rows));
  return text + line("how", r.io);
}

std::string json_of(const train::Rehearsal& r, const TrainRequest& request) {
  const Times times = times_of(r);
  const double seconds = train::expected_step_seconds(r.compute_seconds, times.median);
  nlohmann::ordered_json json;
  json["pattern"] = "train";
  json["model"] = request.run.model;
  json["parameters"] = r.parameters;
  json["state_bytes"] = r.state_bytes;
  json["memory_bytes"] = request.session.memory_bytes;
  json["tokens"] = r.tokens;
  json["policy"] = r.preflight.policy.description();
  json["io"] = r.io;
  json["planned_read_bytes"] = r.preflight.step.read();
  json["planned_written_bytes"] = r.preflight.step.written();
  json["read_bytes"] = mean_of(r, &train::StepReport::read_bytes);
  json["written_bytes"] = mean_of(r, &train::StepReport::written_bytes);
  json["read_bytes_per_second"] = rate_of(r, &train::StepReport::read_bytes);
  json["written_bytes_per_second"] = rate_of(r, &train::StepReport::written_bytes);
  json["disk_seconds"] = {{"least", times.least}, {"median", times.median}, {"most", times.most}};
  json["flops"] = r.preflight.flops;
  json["flops_per_second"] = r.flops_per_second;
  json["compute_seconds"] = r.compute_seconds;
  json["steps_per_minute"] = 60 / seconds;
  json["bottleneck"] = times.median > r.compute_seconds ? "disk" : "compute";
  json["hiding_tokens"] =
      r.hiding_tokens ? nlohmann::ordered_json(*r.hiding_tokens) : nlohmann::ordered_json();
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

bool asks_for_training_pattern(const std::vector<std::string>& arguments) {
  for (size_t i = 0; i < arguments.size(); i++) {
    if (arguments[i] == "--pattern=train") return true;
    if (arguments[i] == "--pattern" && i + 1 < arguments.size() && arguments[i + 1] == "train") return true;
  }
  return false;
}

void run_bench_train(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(bench_train_spec(), arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  TrainRequest request;
  apply_train_options(parsed, request);
  const uint64_t steps = request.session.steps == 0 ? kChosenSteps : request.session.steps;
  if (steps > kMostSteps)
    throw Error(ErrorKind::kUsage, fmt::format("--steps {} are more than are worth measuring", steps),
                fmt::format("give --steps {} or less", kMostSteps));
  complete_for_plan(request, request.session.memory_bytes != 0 ? 0 : available_memory().bytes);
  request.run.data.clear();
  models::ModelConfig config = models::load_model(request.run.model);
  models::settle(config, request.run, nullptr);

  say_when_stopping(
      "\nheadrace: ending the measurement and removing its files; once more stops at once and leaves them\n");
  const std::atomic<int>& stop = watch_for_stop();
  Progress progress({request.json, request.quiet, terminal_style()}, 0, watch_for_stop());
  const OwnDirectories directories(parsed.positionals);
  request.session.run_dir = directories.paths()[0] + "/run";
  if (directories.paths().size() > 1) request.session.shard_dirs = directories.paths();
  const RunInput run = make_run_input(request.run, request.session, config);
  const train::Rehearsal rehearsal =
      train::rehearse(run.input, steps, stop,
                      [&](const std::string& phase, double fraction) { progress.working(phase, fraction); });
  progress.clear();
  progress.finish(request.json ? json_of(rehearsal, request) : text_of(rehearsal, request));
}

}  // namespace headrace::tools

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "storage/text.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/eval_report.h"
#include "tools/memory_limit.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/signals.h"
#include "tools/weights_evaluation.h"

namespace headrace::tools {
namespace {

bool belongs_to_eval(const std::string& name) {
  return name == "data" || name == "memory" || name == "threads" || name == "io" || name == "shard-dir" ||
         name == "json" || name == "quiet";
}

CommandSpec eval_spec() {
  CommandSpec spec;
  spec.name = "eval";
  spec.description =
      "Evaluates a network on data of the kind that it was trained on: the loss, and what shows how good the "
      "model is at its task: perplexity, accuracy and confusion of classes, or mean absolute error.";
  spec.positional = "PATH";
  spec.positional_help = "a run; or a checkpoint, or what headrace quantize made, evaluated from a copy";
  for (const TrainOption& option : train_options()) {
    if (!belongs_to_eval(option.entry.name)) continue;
    const std::string help = option.entry.name == "data" ? "what to evaluate on" : option.entry.help;
    spec.options.push_back({option.entry.name, option.entry.metavar, help,
                            option.entry.type == train::OptionType::kTextList, false, "Options"});
  }
  return spec;
}

std::string result_text(const train::EvalSummary& s, bool json) {
  if (!json) {
    const std::string windows =
        s.task == train::Task::kNextToken ? fmt::format(" in {} windows", s.windows) : "";
    return fmt::format("step {}: {} over {} {}{} ({})\n", s.step, eval_line(s), s.tokens, s.rows, windows,
                       format_duration(s.seconds)) +
           class_table(s);
  }
  nlohmann::ordered_json object;
  object["step"] = s.step;
  add_eval_fields(s, object);
  if (s.task == train::Task::kNextToken) object["windows"] = s.windows;
  object["seconds"] = s.seconds;
  return object.dump() + "\n";
}

}  // namespace

void run_eval(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(eval_spec(), arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  const std::string& run_dir = parsed.positional;
  TrainRequest request = parse_train_arguments({run_dir}).request;
  apply_options(parsed.options, request);
  request.session.eval_data = request.run.data;
  if (request.session.eval_data.empty()) {
    throw Error(ErrorKind::kUsage, "no data to evaluate on were named", "name them with --data FILE");
  }
  const Network network = open_network(run_dir);
  if (request.session.memory_bytes == 0) request.session.memory_bytes = available_memory().bytes / 4 * 3;
  std::atomic<int>& stop = watch_for_stop();
  Progress progress({request.json, request.quiet, terminal_style()}, 0, stop);
  const train::EvalSummary summary =
      evaluate_network(network, request.session, request.session.eval_data, progress, stop);
  progress.clear();
  progress.finish(result_text(summary, request.json));
}

}  // namespace headrace::tools

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/train/cursor.h"
#include "engine/train/run_options.h"
#include "engine/train/trainer.h"
#include "models/registry.h"
#include "storage/checkpoint_reader.h"
#include "storage/checkpoint_restore.h"
#include "storage/error.h"
#include "storage/store.h"
#include "storage/text.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/new_training.h"
#include "tools/progress.h"
#include "tools/run_input.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

struct RestoreRequest {
  std::string checkpoint, run_dir;
  bool weights_only = false, json = false, quiet = false;
  uint64_t block_bytes = 0;  // 0: the checkpoint's
  uint64_t threads = 0;
  storage::IoOptions io;
  std::vector<std::string> shard_dirs;
  std::vector<GivenOption> training;  // of the new training
};

CommandSpec restore_spec() {
  CommandSpec spec;
  spec.name = "restore";
  spec.description =
      "Makes a run from a checkpoint, which goes on as if it had never stopped. From a checkpoint of weights "
      "alone, or with --weights-only, a new training begins at step 0 with these weights and a fresh "
      "optimizer, which may be another one.";
  spec.positional = "CHECKPOINT";
  spec.positional_help = "the directory of the checkpoint";
  spec.second_positional = "RUN";
  spec.second_positional_help = "the directory of the run to be made";
  spec.options = {
      {"weights-only", "", "take the weights and leave the optimizer's state", false, false, "Options"},
      {"shard-dir", "DIR", "a directory for a shard of the run, one on each drive; may be repeated", true,
       false, "Options"},
      {"block-size", "SIZE", "aimed-at size of a record on disk [as it was]", false, false, "Options"},
      {"io", "auto|uring|threads", "how blocks are written [auto]", false, false, "Options"},
      {"threads", "N", "that decompress; 0: all cores this process may use [0]", false, false, "Options"},
      {"json", "", "one JSON object instead of text", false, false, "Options"},
      {"quiet", "", "no progress", false, false, "Options"},
  };
  for (const TrainOption& option : train_options()) {
    if (!may_change_for_new_training(option.entry.name)) continue;
    spec.options.push_back({option.entry.name, option.entry.metavar, option.entry.help, false, false,
                            "Options of the new training, with --weights-only [as it was]"});
  }
  return spec;
}

void set(const GivenOption& option, RestoreRequest& request) {
  std::string problem;
  if (may_change_for_new_training(option.name)) request.training.push_back(option);
  if (option.name == "weights-only") request.weights_only = true;
  if (option.name == "shard-dir") request.shard_dirs.push_back(option.text);
  if (option.name == "json") request.json = true;
  if (option.name == "quiet") request.quiet = true;
  if (option.name == "threads") problem = train::set_count(option.text, 0, 4096, request.threads);
  if (option.name == "block-size")
    problem = train::set_size(option.text, 4096, uint64_t{1} << 30, request.block_bytes);
  if (option.name == "io") {
    const std::vector<std::string> names{"auto", "uring", "threads"};
    size_t index = 0;
    problem = train::set_choice(option.text, names, index);
    request.io.backend = static_cast<storage::IoBackend>(index);
  }
  if (!problem.empty())
    throw Error(ErrorKind::kUsage, fmt::format("--{}: {}", option.name, problem),
                "see headrace restore --help");
}

RestoreRequest request_of(const Arguments& parsed) {
  RestoreRequest request;
  request.checkpoint = parsed.positional;
  request.run_dir = parsed.second_positional;
  for (const GivenOption& option : parsed.options) set(option, request);
  if (request.threads == 0) request.threads = std::max(std::thread::hardware_concurrency(), 1u);
  return request;
}

train::RunOptions restored_options(const train::RunOptions& saved, const std::vector<GivenOption>& training,
                                   bool fresh) {
  if (training.empty()) return saved;
  if (!fresh) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--{} would change a training that goes on", training.front().name),
                "leave it out, or begin a new training of these weights with --weights-only");
  }
  TrainRequest request;
  request.run = saved;
  complete_for_new_training(request, training);
  return request.run;
}

std::string result_text(const RestoreRequest& request, const storage::CheckpointManifest& manifest,
                        uint64_t step, bool fresh) {
  if (request.json) {
    nlohmann::ordered_json object;
    object["run"] = request.run_dir;
    object["step"] = step;
    object["checkpoint_step"] = manifest.step;
    object["fresh_optimizer"] = fresh;
    return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  if (fresh) {
    return fmt::format(
        "{}: the weights of step {}, at step 0 of a new training; the optimizer starts afresh\n",
        printable(request.run_dir), manifest.step);
  }
  return fmt::format("{}: at step {}, as it was saved\n", printable(request.run_dir), step);
}

}  // namespace

void run_restore(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(restore_spec(), arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  const RestoreRequest request = request_of(parsed);
  const storage::CheckpointReader checkpoint(request.checkpoint);
  const storage::CheckpointManifest& manifest = checkpoint.manifest();
  const bool fresh = request.weights_only || manifest.weights_only;
  train::RunOptions options =
      restored_options(train::run_options_from_json(manifest.configuration), request.training, fresh);
  const models::ModelConfig config = kept_config(manifest.model_json);
  if (request.block_bytes != 0) options.block_bytes = request.block_bytes;
  const std::unique_ptr<train::Model> model = models::build_model(config, options);
  const storage::Layout layout = train::make_layout(*model, options);
  storage::CheckpointContent content(checkpoint, layout, fresh);
  const uint64_t step = fresh ? 0 : manifest.step;

  Progress progress({request.json, request.quiet, terminal_style()}, 0, watch_for_stop());
  const auto io = storage::make_block_io(request.io);
  storage::Store::create(
      {.run_dir = request.run_dir,
       .shard_dirs = request.shard_dirs,
       .layout = layout,
       .model_json = kept_json(options, config),
       .cursor_json = train::cursor_json({.step = step}),
       .step = step},
      *io,
      [&](const storage::BlockLayout& block, std::span<std::byte> payload) {
        if (watch_for_stop() != 0)
          throw Error(ErrorKind::kFailed, "stopped before the run was complete", "start it again");
        return content.fill(block, payload);
      },
      static_cast<uint32_t>(request.threads),
      [&](uint64_t done, uint64_t total) {
        progress.working("restoring", static_cast<double>(done) / static_cast<double>(total));
      });
  train::write_run_config(request.run_dir, options);
  progress.clear();
  progress.finish(result_text(request, manifest, step, fresh));
}

}  // namespace headrace::tools

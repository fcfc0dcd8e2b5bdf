#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "engine/train/run_options.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_save.h"
#include "storage/checkpoint_writer.h"
#include "storage/error.h"
#include "storage/store.h"
#include "storage/text.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

struct CheckpointRequest {
  std::string run_dir, output;
  bool weights_only = false, json = false, quiet = false;
  uint64_t level = 1, threads = 0;
  std::vector<std::string> shard_dirs;
};

CommandSpec checkpoint_spec() {
  CommandSpec spec;
  spec.name = "checkpoint";
  spec.description = "Saves the committed step of a run that is not in use, compressed.";
  spec.positional = "RUN";
  spec.positional_help = "the directory of the run";
  spec.options = {
      {"weights-only", "", "the weights without the optimizer's state", false, false, "Options"},
      {"output", "DIR", "the checkpoint's directory [RUN/checkpoints/step-NNNNNN]", false, false, "Options"},
      {"level", "N", "of zstd, 1 to 19 [1]", false, false, "Options"},
      {"threads", "N", "that compress; 0: all cores this process may use [0]", false, false, "Options"},
      {"shard-dir", "DIR", "where a shard of the run is now; may be repeated", true, false, "Options"},
      {"json", "", "one JSON object instead of text", false, false, "Options"},
      {"quiet", "", "no progress", false, false, "Options"},
  };
  return spec;
}

uint64_t count(const GivenOption& option, uint64_t low, uint64_t high) {
  uint64_t value = 0;
  const std::string problem = train::set_count(option.text, low, high, value);
  if (!problem.empty())
    throw Error(ErrorKind::kUsage, fmt::format("--{}: {}", option.name, problem),
                "see headrace checkpoint --help");
  return value;
}

CheckpointRequest request_of(const Arguments& parsed) {
  CheckpointRequest request;
  request.run_dir = parsed.positional;
  for (const GivenOption& option : parsed.options) {
    if (option.name == "weights-only") request.weights_only = true;
    if (option.name == "output") request.output = option.text;
    if (option.name == "level") request.level = count(option, storage::kLeastLevel, storage::kMostLevel);
    if (option.name == "threads") request.threads = count(option, 0, 4096);
    if (option.name == "shard-dir") request.shard_dirs.push_back(option.text);
    if (option.name == "json") request.json = true;
    if (option.name == "quiet") request.quiet = true;
  }
  if (request.threads == 0) request.threads = std::max(std::thread::hardware_concurrency(), 1u);
  return request;
}

std::string result_text(const std::string& directory, uint64_t step, const storage::CheckpointStats& stats,
                        bool json) {
  if (json) {
    nlohmann::ordered_json object;
    object["checkpoint"] = directory;
    object["step"] = step;
    object["content_bytes"] = stats.content_bytes;
    object["stored_bytes"] = stats.stored_bytes;
    object["linked_bytes"] = stats.linked_bytes;
    object["compress_seconds"] = stats.compress_seconds;
    return object.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  std::string linked;
  if (stats.linked_bytes > 0)
    linked = fmt::format(", of which {} are links", format_size(stats.linked_bytes));
  return fmt::format("{}: step {}, {} in {}{}\n", printable(directory), step,
                     format_size(stats.content_bytes), format_size(stats.stored_bytes), linked);
}

}  // namespace

void run_checkpoint(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(checkpoint_spec(), arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  const CheckpointRequest request = request_of(parsed);
  if (!storage::Store::exists(request.run_dir)) {
    throw Error(ErrorKind::kUsage, fmt::format("{} holds no run", printable(request.run_dir)),
                "name the directory that headrace train made");
  }
  const auto io = storage::make_block_io({});
  const auto store = storage::Store::open(request.run_dir, request.shard_dirs, *io);
  const train::RunOptions options = options_of_run(request.run_dir);
  storage::remove_leftovers(request.run_dir);
  const auto threads = static_cast<uint32_t>(request.threads);
  storage::CheckpointWriter writer(store->layout(),
                                   {.level = static_cast<int>(request.level), .workers = threads, .at = {}});
  const std::string directory =
      request.output.empty()
          ? storage::checkpoint_directory(request.run_dir, store->step(), request.weights_only)
          : request.output;
  writer.begin({.directory = directory,
                .manifest = {.run_id = store->run_id(),
                             .step = store->step(),
                             .weights_only = request.weights_only,
                             .automatic = false,
                             .model_json = store->model_json(),
                             .cursor_json = store->cursor_json(),
                             .configuration = train::run_options_json(options),
                             .tensors = {},
                             .stored_bytes = {},
                             .packs = {}},
                .earlier = storage::earlier_checkpoint(request.run_dir, request.weights_only),
                .written_step = [&](storage::BlockId block) { return store->written_step(block); }});
  Progress progress({request.json, request.quiet, terminal_style()}, 0, watch_for_stop());
  storage::save_missing(writer, *store, *io, threads, [&](double fraction) {
    progress.working("saving", fraction);
    if (watch_for_stop() != 0)
      throw Error(ErrorKind::kFailed, "stopped before the checkpoint was complete", "start it again");
  });
  const storage::CheckpointStats stats = writer.publish();
  progress.clear();
  progress.finish(result_text(directory, store->step(), stats, request.json));
}

}  // namespace headrace::tools

#include "tools/weights_evaluation.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "engine/inspect/dequantized.h"
#include "engine/train/cursor.h"
#include "engine/train/run_options.h"
#include "engine/train/source_content.h"
#include "engine/train/trainer.h"
#include "storage/block_io.h"
#include "storage/error.h"
#include "storage/run_description.h"
#include "storage/store.h"
#include "storage/text.h"

namespace headrace::tools {
namespace {

namespace fs = std::filesystem;

// A directory beside `path`, gone with all in it in the end.
class OwnDirectory {
 public:
  explicit OwnDirectory(const std::string& path) {
    const fs::path whole = fs::absolute(path).lexically_normal();
    const fs::path parent = (whole.has_filename() ? whole : whole.parent_path()).parent_path();
    path_ = (parent / ".headrace-eval-XXXXXX").string();
    if (::mkdtemp(path_.data()) != nullptr) return;
    throw Error(ErrorKind::kRefused,
                fmt::format("cannot make a directory in {}: {}", parent.string(), system_text(errno)),
                "what is no run is evaluated from a copy of its weights, which needs a place beside it");
  }
  ~OwnDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  OwnDirectory(const OwnDirectory&) = delete;
  OwnDirectory& operator=(const OwnDirectory&) = delete;
  std::string run_dir() const { return path_ + "/run"; }

 private:
  std::string path_;
};

// Of the network's weights alone: an optimizer without state.
train::RunOptions weights_alone(train::RunOptions run) {
  run.optimizer = "sgd";
  run.momentum = 0;
  run.nesterov = false;
  return run;
}

void create_run(const Network& network, const RunInput& run, const std::atomic<int>& stop,
                Progress& progress) {
  const auto source =
      inspect::dequantized(storage::open_source(network.path, {.use = storage::SourceUse::kRead}));
  const uint64_t step = source->info().step.value_or(0);
  const storage::Layout layout = train::make_layout(*run.model, run.input.run);
  train::SourceContent content(*source, *run.model, layout, run.data.evaluation.get());
  const auto io = storage::make_block_io({.backend = run.input.session.io});
  storage::Store::create(
      {.run_dir = run.input.session.run_dir,
       .shard_dirs = {},
       .layout = layout,
       .model_json = run.input.model_json,
       .cursor_json = train::cursor_json({.step = step}),
       .step = step},
      *io,
      [&](const storage::BlockLayout& block, std::span<std::byte> payload) {
        if (stop != 0) throw Error(ErrorKind::kFailed, "stopped before the evaluation began");
        return content.fill(block, payload);
      },
      1,
      [&](uint64_t done, uint64_t total) {
        progress.working("reading the weights", total == 0 ? 1 : double(done) / double(total));
      });
}

}  // namespace

Network open_network(const std::string& path) {
  Network network{.path = path, .is_run = storage::Store::exists(path), .config = {}, .run = {}};
  if (network.is_run) {
    network.run = options_of_run(path);
    network.config = kept_config(storage::describe_run(path).model_json);
    return network;
  }
  if (!fs::exists(path)) {
    throw Error(ErrorKind::kUsage, fmt::format("{} holds no run, and no checkpoint", printable(path)),
                "name the directory that headrace train made, a checkpoint, or what headrace quantize made");
  }
  const std::string kept = storage::open_source(path, {})->info().model_json;
  if (kept.empty()) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{} does not say which model its tensors are of", printable(path)),
                "name a run, a checkpoint, or what headrace quantize made");
  }
  network.config = kept_config(kept);
  network.run = kept_options(kept);
  return network;
}

train::EvalSummary evaluate_network(const Network& network, const train::SessionOptions& session,
                                    const std::string& data_path, Progress& progress,
                                    const std::atomic<int>& stop) {
  models::ModelConfig config = network.config;
  RunData data;
  data.evaluation = open_run_data(data_path, false, network.run, session, config);
  models::settle(config, network.run, data.evaluation.get());
  const auto evaluate = [&](const RunInput& run) {
    const train::EvalSummary summary = train::evaluate(run.input, progress, stop);
    if (stop != 0) {
      throw Error(ErrorKind::kFailed, "the evaluation was stopped before its end",
                  "start it again; nothing was changed");
    }
    return summary;
  };
  if (network.is_run) return evaluate(make_run_input(network.run, session, config, std::move(data)));
  const OwnDirectory own(network.path);
  train::SessionOptions of_own = session;
  of_own.run_dir = own.run_dir();
  of_own.shard_dirs.clear();
  const RunInput run = make_run_input(weights_alone(network.run), of_own, config, std::move(data));
  create_run(network, run, stop, progress);
  return evaluate(run);
}

}  // namespace headrace::tools

// Evaluates networks on data: runs as they are; checkpoints and exports, whose weights are put into a run of
// their own for that, in a hidden directory beside them that is gone afterwards (after `kill -9` it stays).
#pragma once

#include <string>
#include <vector>

#include "engine/train/report.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/run_input.h"

namespace headrace::tools {

// What an evaluation is of: the configuration and the options of a run, and of what was saved or exported
// from one.
struct Network {
  std::string path;
  bool is_run = false;
  models::ModelConfig config;
  train::RunOptions run;
};
// Throws Error (kUsage) for what is neither a run nor made from one.
Network open_network(const std::string& path);

// `session`: memory, threads, shards and so on; `data`: the path. Error where it was stopped.
train::EvalSummary evaluate_network(const Network& network, const train::SessionOptions& session,
                                    const std::string& data, Progress& progress,
                                    const std::atomic<int>& stop);

}  // namespace headrace::tools

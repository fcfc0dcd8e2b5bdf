// Training and evaluation of a run: opens the store, plans each step while the one before runs, commits
// beside the next, and stops cleanly when asked.
//
// Called from one thread; uses `session.threads` workers, one I/O thread and one thread that commits.
// Failure: Error; what was committed stays.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "engine/train/model.h"
#include "engine/train/options.h"
#include "engine/train/report.h"

namespace headrace::train {

struct TrainInput {
  RunOptions run;
  SessionOptions session;
  Model& model;
  std::string model_json;  // kept with the run; on an existing run it must be equal to what is kept
};

// Creates the run if there is none, then trains until step `session.steps` or until `stop` becomes non-zero.
TrainSummary train(const TrainInput& input, TrainListener& listener, const std::atomic<int>& stop);

// The loss over the windows of `session.eval_data`, each once, in order.
EvalSummary evaluate(const TrainInput& input, TrainListener& listener, const std::atomic<int>& stop);

// The tensor table of a run: the model's tensors with the optimizer's planes, cut into blocks.
storage::Layout make_layout(const Model& model, const RunOptions& run);

}  // namespace headrace::train

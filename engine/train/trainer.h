// Training and evaluation of a run: opens the store, plans each step while the one before runs, commits
// beside the next, and stops cleanly when asked.
//
// Called from one thread; uses `session.threads` workers, one I/O thread and one thread that commits.
// Failure: Error; what was committed stays.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "engine/train/data_set.h"
#include "engine/train/model.h"
#include "engine/train/options.h"
#include "engine/train/preflight.h"
#include "engine/train/report.h"

namespace headrace::train {

struct TrainInput {
  RunOptions run;
  SessionOptions session;
  Model& model;
  std::string model_json;         // kept with the run; on an existing run it must be equal to what is kept
  const DataSet* data = nullptr;  // to train on; planning draws something where there is none
  const DataSet* eval_data = nullptr;  // for evaluate() and session.eval_every
};

// Creates the run if there is none, then trains until step `session.steps` or until `stop` becomes non-zero.
TrainSummary train(const TrainInput& input, TrainListener& listener, const std::atomic<int>& stop);

// The loss over all rows of `eval_data`, each once, in order.
EvalSummary evaluate(const TrainInput& input, TrainListener& listener, const std::atomic<int>& stop);

// Runs `body` in an oneTBB arena of as many workers as the session asks for; preflight() wants that.
void with_session_threads(const SessionOptions& session, const std::function<void()>& body);

// What train() asks preflight() for a batch; binds the model to the layout. Both, and the batch, must
// outlive the result.
PreflightInput preflight_input(const TrainInput& input, const storage::Layout& layout, const BatchData& batch,
                               bool training);

// The tensor table of a run: the model's tensors with the optimizer's planes, cut into blocks.
storage::Layout make_layout(const Model& model, const RunOptions& run);

}  // namespace headrace::train

// A training without its mathematics: the real store in a directory of its own, the recorded schedule, the
// real streamer; every byte moves, is checksummed and committed as in the training, and nothing is computed.
// What the disk alone takes of a step.
//
// The caller makes the directories that `input.session` names and removes them afterwards. Failure: Error;
// kRefused for too little memory or space, kFailed once `stop` is other than zero.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/train/preflight.h"
#include "engine/train/report.h"
#include "engine/train/trainer.h"

namespace headrace::train {

struct Rehearsal {
  uint64_t parameters = 0, state_bytes = 0, tokens = 0;  // tokens of a step; or samples, nodes:
  std::string rows = "tokens";                           // Model::row_name()
  Preflight preflight;
  std::vector<StepReport> steps;          // with a warm cache: bytes and seconds
  std::string io;                         // the back end and what was chosen, in words
  double flops_per_second = 0;            // of the products alone, as measured
  double compute_seconds = 0;             // of a step at that rate
  std::optional<uint64_t> hiding_tokens;  // as in TrainingPlan
};

// `steps`: that are measured, after two that warm the cache and write every block once. Tokens are drawn.
Rehearsal rehearse(const TrainInput& input, uint64_t steps, const std::atomic<int>& stop,
                   const std::function<void(const std::string& phase, double fraction)>& working);

}  // namespace headrace::train

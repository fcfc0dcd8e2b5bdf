// The training that the faults are put into: small, and nothing stays in memory.
#pragma once

#include <vector>

#include "models/gpt2_config.h"
#include "tests/support/training_run.h"

namespace headrace::testing {

inline constexpr uint64_t kTinySteps = 3;

inline models::Gpt2Config tiny_config() {
  models::Gpt2Config config;
  config.vocab_size = 300;
  config.n_positions = 16;
  config.n_embd = 32;
  config.n_inner = 128;
  config.n_layer = 1;
  config.n_head = 2;
  return config;
}

inline TrainingOptions tiny_training_options() {
  TrainingOptions options;
  options.run.batch = 2;
  options.run.seq = 16;
  options.run.lr = 1e-3;
  options.run.warmup = 0;
  options.run.schedule = train::LrSchedule::kConstant;
  options.run.block_bytes = 256 * 12 * 32;  // a panel
  options.arena_bytes = 0;                  // the least
  return options;
}

inline std::vector<train::BatchData> tiny_batches() {
  std::vector<train::BatchData> batches;
  for (uint64_t step = 0; step < kTinySteps; step++)
    batches.push_back(random_tokens(step, 2, 16, tiny_config().vocab_size));
  return batches;
}

}  // namespace headrace::testing

// A whole training in process: layout, store on disk, block I/O, preflight and session, as the trainer puts
// them together, with what a test wants to choose (weights, tokens, policy, the arena to the byte) and to see
// (every committed value, bytes that moved). Runs lie in a temporary directory that is gone afterwards.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/train/batch.h"
#include "engine/train/model.h"
#include "engine/train/options.h"
#include "engine/train/preflight.h"
#include "engine/train/report.h"
#include "storage/block_io.h"
#include "storage/store.h"

namespace headrace::testing {

using TensorValues = std::map<std::string, std::vector<float>>;  // by the name of the part

struct TrainingOptions {
  train::RunOptions run;
  uint64_t memory_bytes = uint64_t{64} << 20;  // block I/O may make all of it resident
  uint32_t threads = 2;
  storage::IoBackend io = storage::IoBackend::kAuto;
  std::optional<train::ExecutionPolicy> policy;  // in place of what preflight chooses
  // Likewise the arena's size; 0: the least in which the policy's operations fit.
  std::optional<uint64_t> arena_bytes;
  const TensorValues* initial = nullptr;  // null: as the model initialises itself from run.seed
  train::OnNan on_nan = train::OnNan::kStop;
  bool evaluate = false;  // forward passes alone
  uint32_t shards = 1;
  // Puts something between the session and the drive.
  std::function<std::unique_ptr<storage::BlockIo>(storage::BlockIo&)> wrap_io;
  // Where the run is, to be created or resumed there; empty: a new one that is gone afterwards.
  std::string run_dir = {};
  const train::Preflight* preflight = nullptr;  // of an earlier run with the same options
  uint32_t stuck_ms = storage::IoOptions().stuck_ms;
  std::function<void(const train::StepReport&)> committed = {};  // called for each step once it is
};

struct TrainedTensor {
  std::vector<float> weights, moment1, moment2;  // moments empty where the optimizer has none
};

struct TrainingResult {
  train::Preflight preflight;  // as used
  std::vector<train::StepReport> steps;
  uint64_t predicted_read_bytes = 0, predicted_written_bytes = 0;  // of all plans, that of the end included
  storage::IoCounters moved;                                       // by the session
  std::string numbers;  // losses and gradient norms of the steps with 17 digits
  std::string digest;
  std::map<std::string, TrainedTensor> tensors;  // committed at the end, by the name of the part
};

// One step for each batch; a resumed run has behind it those of the first ones.
TrainingResult run_training(train::Model& model, const TrainingOptions& options,
                            std::span<const train::BatchData> batches);

// The least budget that preflight accepts, as its refusal says.
uint64_t least_memory_bytes(train::Model& model, const TrainingOptions& options,
                            const train::BatchData& batch);

// Sequences of `seq` tokens and their next tokens, as a fixed pseudo-random function of seed.
train::BatchData random_tokens(uint64_t seed, uint64_t sequences, uint64_t seq, uint64_t vocabulary);

}  // namespace headrace::testing

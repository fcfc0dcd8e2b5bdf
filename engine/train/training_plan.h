// Before training: what it will take of memory and disk, what a step will move and compute, how long that
// takes where the rates are known, and what holds it up. From the same dry runs and the same planner as the
// training itself (engine/train/preflight.h), so its bytes are those that the training reports.
//
// Nothing is written. Failure: Error, as train() has it: kRefused for a budget that is too small.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/train/preflight.h"
#include "engine/train/trainer.h"
#include "storage/drive_profile.h"
#include "storage/store.h"

namespace headrace::train {

// The file system of some of the run's shards, or of RUN alone.
struct PlannedDrive {
  std::string directory;                      // the first of them
  uint64_t needed_bytes = 0, free_bytes = 0;  // to create the run, and for what a step spills
  double share = 0;                           // of what a step moves
  std::optional<storage::DriveProfile> profile;
  std::string profile_path;
};

enum class Bottleneck : uint8_t { kUnknown, kCompute, kReading, kWriting };

// The first steps of a run, as its session would plan them.
struct PlannedSteps {
  std::vector<stream::PlannedBytes> first;
  stream::PlannedBytes mean;  // of those with a warm cache, over whole cycles from commit to commit
  uint64_t spill_bytes = 0;   // the most that lies in spill files
};

struct TrainingPlan {
  bool exists = false;  // the run
  uint64_t step = 0;    // committed
  uint64_t parameters = 0, state_bytes = 0;
  uint64_t memory_bytes = 0;  // the budget
  LeastMemory least;
  Preflight preflight;
  PlannedSteps steps;
  uint64_t tokens = 0;          // of a step; or samples, nodes:
  std::string rows = "tokens";  // Model::row_name()
  bool drawn_tokens = false;    // no data: drawn ones
  std::vector<PlannedDrive> drives;
  std::vector<std::string> warnings;  // of profiles that are ignored

  double flops_per_second = 0;  // of the products, as measured
  double compute_seconds = 0;   // of a step
  // Where every drive has a profile.
  std::optional<double> disk_seconds, seconds;
  Bottleneck bottleneck = Bottleneck::kUnknown;
  // About the least tokens of a step whose computing takes as long as its transfers; nothing where up to
  // 64 times as many as now do not, within this budget.
  std::optional<uint64_t> hiding_tokens;
};

// Without `input.data`, the model draws what stands for data.
TrainingPlan plan_training(const TrainInput& input);

// Every step has the same batch. What each moves depends on where the steps before have left things in the
// cache, so that steps differ a little.
PlannedSteps plan_steps(const PreflightInput& input, const Preflight& preflight);

// Seconds that a drive needs to read and write so much, both in flight together.
double transfer_seconds(const storage::DriveProfile& drive, double read_bytes, double written_bytes);

// TrainingPlan::hiding_tokens, where a second computes `flops_per_second` and `disk_seconds(bytes of a step)`
// says what transfers take. Plans steps of other numbers of sequences.
std::optional<uint64_t> least_hiding_tokens(
    const TrainInput& input, const storage::Layout& layout, const Preflight& preflight,
    double flops_per_second, const std::function<double(const stream::PlannedBytes&)>& disk_seconds);

}  // namespace headrace::train

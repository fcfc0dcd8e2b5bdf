// What a training run is asked for. The names are those of the command line and of the configuration file;
// the limits, the texts and the file are in run_options.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "storage/block_io.h"

namespace headrace::train {

enum class WeightPrecision { kFloat32, kBfloat16 };  // what the products compute with
enum class LrSchedule { kCosine, kLinear, kConstant };
// What to do about a step whose loss or gradient norm is not finite.
enum class OnNan {
  kStop,  // the training ends; the step never happened
  kSkip,  // its update does not happen; the step counts and the data go on
};

// The largest rate of dropout.
inline constexpr double kMostDropout = 0.999;

// What belongs to a run: fixed when it is created, kept in RUN, the same ever after.
struct RunOptions {
  std::string model;             // a registered name, a config.json, or a folder that holds one
  std::string data;              // file of the training text; absolute once resolved
  std::string data_fingerprint;  // TextData::fingerprint() of it, filled in when the run is created
  std::string tokenizer = "bytes";
  uint64_t batch = 4;        // sequences a step
  uint64_t seq = 256;        // tokens of a sequence
  uint64_t micro_batch = 0;  // sequences; 0: chosen to fit. Not part of the result
  std::string optimizer = "adamw";
  double lr = 6e-4, min_lr = 6e-5;
  uint64_t warmup = 10;  // steps
  LrSchedule schedule = LrSchedule::kCosine;
  uint64_t schedule_steps = 0;  // the step at which the decay ends: --steps of the run's creation
  double weight_decay = 0.1, beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double momentum = 0;  // of sgd
  bool nesterov = false;
  double l1 = 0, l2 = 0;  // penalties of the tensors that decay
  // Magnitude pruning: engine/train/pruning.h. Sparsity 0: none; end 0: the same as begin.
  double prune_sparsity = 0, prune_initial = 0;
  uint64_t prune_begin = 1, prune_end = 0, prune_every = 100;  // steps
  bool prune_embeddings = false;
  double clip = 1.0;  // largest global gradient norm; 0: none
  WeightPrecision weights = WeightPrecision::kFloat32;
  uint64_t seed = 1;
  uint64_t commit_every = 1;       // steps. Not part of the result
  uint64_t block_bytes = 4 << 20;  // aimed-at size of a block's record
  // Of some models; empty: as their configuration or the data say.
  std::string hidden;      // widths of hidden layers: "256,128"
  std::string activation;  // between them
  std::string norm;
  std::optional<double> dropout;
  std::string loss;
  uint64_t target_columns = 1;  // of a CSV: so many of its last columns
};

// What a session may choose anew, each time.
struct SessionOptions {
  std::string run_dir;
  uint64_t memory_bytes = 0;  // the budget
  uint64_t steps = 0;         // the total: a resumed run ends at the same step
  uint32_t threads = 0;       // 0: all cores that this process may use
  storage::IoBackend io = storage::IoBackend::kAuto;
  std::vector<std::string> shard_dirs;  // of a new run; of an existing one, where its shards are now
  std::string eval_data;                // file; empty: none
  uint64_t eval_every = 0;              // steps; 0: never
  OnNan on_nan = OnNan::kStop;
  bool wait_for_space = false;    // a full disk is a pause; otherwise the end of the session
  uint64_t checkpoint_every = 0;  // steps; 0: never
  uint64_t keep = 0;              // checkpoints that the training took; 0: all
  bool checkpoint_weights_only = false;
  uint64_t checkpoint_level = 1;    // of zstd
  uint64_t checkpoint_threads = 0;  // that compress at a time; 0: as many as compute
};

// Whether updates wait for the whole gradient's norm: for clipping, or to know that the step counts.
inline bool late_updates(const RunOptions& run, const SessionOptions& session) {
  return run.clip > 0 || session.on_nan == OnNan::kSkip;
}

}  // namespace headrace::train

// What a training session tells whoever watches it, and the metrics line that commits with a step.
//
// The trainer calls a listener from one thread at a time, in the order in which things happen; a listener
// returns quickly and does not throw.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/train/metrics.h"

namespace headrace::train {

// One committed step. Bytes count what moved between disk and memory, spill files included.
struct StepReport {
  uint64_t step = 0;  // counted from 1
  double loss = 0;    // mean over the batch's rows; of a cross entropy, in nats
  double lr = 0;
  double grad_norm = 0;  // global 2-norm before clipping
  uint64_t tokens = 0;   // or samples, nodes: rows trained on in this step
  double seconds = 0;    // wall time of the step
  double compute_seconds = 0, read_wait_seconds = 0, write_wait_seconds = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t rss_bytes = 0;               // peak resident size of the process so far
  bool skipped = false;                 // the loss or the norm was not finite, and nothing was updated
  std::optional<double> sparsity = {};  // of the matrices that are pruned; nothing: none is
};

// The line of metrics.jsonl, without the newline: fixed order of fields, floats with 17 significant digits so
// that they read back exactly. A value that is no number (JSON has none) is written as null; where there is
// pruning "sparsity" follows, and a skipped step has a last field "skipped": true.
std::string metrics_line(const StepReport& report);

struct EvalSummary {
  Task task = Task::kNextToken;
  double loss = 0;        // mean over rows; of a cross entropy, in nats
  double perplexity = 0;  // exp(loss)
  uint64_t tokens = 0;    // rows
  std::string rows = {};  // Model::target_name()
  uint64_t windows = 0;   // sequences of a text
  Metrics metrics;
  uint64_t step = 0;  // committed step of the run that was evaluated
  double seconds = 0;
};

// Of all checkpoints that a session has taken.
struct CheckpointTotals {
  uint64_t count = 0;
  uint64_t content_bytes = 0, stored_bytes = 0;
  uint64_t read_bytes = 0;      // from the run, for them
  double compress_seconds = 0;  // of all threads' processor time
};

struct TrainSummary {
  Task task = Task::kNextToken;
  std::string run_dir, model, io;  // `io`: the back end in words
  uint64_t parameters = 0;
  uint64_t state_bytes = 0;   // parameters and optimizer state
  uint64_t memory_bytes = 0;  // the budget
  uint64_t peak_rss_bytes = 0;
  uint64_t first_step = 0, last_step = 0;  // of this session; first 0: no step was done
  uint64_t total_steps = 0;                // asked for
  double first_loss = 0, last_loss = 0;
  uint64_t tokens = 0;  // of this session, as everything below; or samples, nodes:
  std::string rows = "tokens";
  double seconds = 0, read_wait_seconds = 0, write_wait_seconds = 0;
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t skipped_steps = 0;
  CheckpointTotals checkpoints;
  bool stopped = false;  // by a signal, before total_steps
};

class TrainListener {
 public:
  virtual ~TrainListener() = default;
  // A sentence for people: a resume, a back end, a dropout that is not applied.
  virtual void narrate(const std::string& line) = 0;
  // A long phase ("creating the run", "step 12") has come to `fraction` of its end.
  virtual void working(const std::string& phase, double fraction) = 0;
  virtual void step_done(const StepReport& report) = 0;
  // --eval-every: the loss on the evaluation data.
  virtual void evaluated(const EvalSummary& summary) = 0;
};

}  // namespace headrace::train

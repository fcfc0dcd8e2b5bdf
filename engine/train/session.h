// A run that is open for training or evaluation: its store, memory, cache, streamer, and the loop that
// records the next piece of work while the present one runs.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/stream/cache.h"
#include "engine/stream/context.h"
#include "engine/stream/streamer.h"
#include "engine/train/checkpointer.h"
#include "engine/train/committer.h"
#include "engine/train/cursor.h"
#include "engine/train/gradient_norm.h"
#include "engine/train/optimizer.h"
#include "engine/train/preflight.h"
#include "engine/train/pruning.h"
#include "engine/train/trainer.h"
#include "storage/aligned_memory.h"
#include "storage/spill_file.h"

namespace headrace::train {

// A piece of work that is recorded, planned and run as one program.
struct WorkItem {
  enum class Kind : uint8_t { kTrain, kEvaluate, kFinish /* the updates still due */ };
  Kind kind = Kind::kFinish;
  uint64_t step = 0;  // counted from 1
  BatchData data;
  bool commits = true;  // of kTrain: the step is committed with all before it
};

class Session : private stream::Updates {
 public:
  struct Parts {
    const TrainInput& input;
    storage::BlockIo& io;
    std::unique_ptr<storage::Store> store;
    const Preflight& preflight;
    bool mathematics = true;                // false: for measuring the disk alone
    storage::SpaceWaiter* space = nullptr;  // what a full disk means; null: an error
  };
  explicit Session(Parts parts);
  ~Session() override;

  storage::Store& store() { return *parts_.store; }

  // What follows an item; nothing: the end. Called while the item before it is about to run.
  using NextItem = std::function<std::optional<WorkItem>(const WorkItem&)>;
  // Called when an item has run, the end (kFinish) included; false: what was announced as next is not to be
  // run, finish instead.
  using ItemDone = std::function<bool(const WorkItem&, const StepReport&)>;
  void run(WorkItem first, const NextItem& next_item, const ItemDone& done);

  // Waits for the last commit, and returns reports of committed steps since the last call.
  void wait_for_commit() { committer_->wait(); }
  std::vector<StepReport> take_committed() { return committer_->take_committed(); }

  Checkpointer* checkpointer() { return checkpointer_.get(); }  // null: none are taken

 private:
  stream::Context::Step step_of(const WorkItem& item);
  stream::Program record(const WorkItem& item);
  // `start`: when the item began, the recording of the next one and the planning included.
  StepReport run_item(const WorkItem& item, const stream::Program& program, stream::Plan plan,
                      std::chrono::steady_clock::time_point start);
  void begin_step(const WorkItem& item);
  void end_step(const WorkItem& item, StepReport& report);
  [[noreturn]] void stop_at(const StepReport& report);
  void commit_when_updated();
  void commit_rest();
  void note(const Cursor& cursor);
  uint64_t checkpoint_due() const;  // the step that one is not published of; 0: none
  stream::StoreWrites store_writes(const WorkItem& item) const;

  void gradient_ready(storage::BlockId block, float* gradient, const math::WeightView& weights) override;
  void update(storage::BlockId block, std::byte* weights, std::byte* moments, const float* gradient) override;
  void updated(storage::BlockId block) override;

  Parts parts_;
  const storage::Layout& layout_;
  std::unique_ptr<Optimizer> optimizer_;
  bool late_updates_;
  Pruner pruner_;
  stream::EntrySpace space_;
  BlockEntrySizes sizes_;
  std::vector<storage::SpillFile> spill_files_;
  stream::SpillSpace spill_space_;
  storage::AlignedMemory arena_;
  stream::CachePlanner planner_;
  std::unique_ptr<stream::Streamer> streamer_;
  std::unique_ptr<Checkpointer> checkpointer_;
  std::unique_ptr<Committer> committer_;
  stream::Context recorder_, runner_;
  GradientNorm norm_;
  const size_t trained_blocks_;  // the others are frozen: nothing updates them
  uint32_t parity_ = 0;
  const stream::Program no_operations_;

  // The step whose updates are under way.
  OptimizerStep update_step_;
  bool skips_updates_ = false;  // it was not finite: blocks stay as they are
  std::mutex commit_mutex_;
  size_t updated_blocks_ = 0;
  bool step_ended_ = false;    // and waits for its last update
  bool step_commits_ = false;  // then it is committed
  bool ending_ = false;        // no step follows
  // The steps since the last commit.
  storage::Commit uncommitted_;
  std::vector<StepReport> uncommitted_reports_;
};

}  // namespace headrace::train

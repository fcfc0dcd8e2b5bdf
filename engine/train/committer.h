// Commits a step on a thread of its own, beside the next step's forward pass.
//
// commit() may be called from any thread once the last update of its step has been handed to the store; the
// next step's first update waits until that commit is done (Streamer::set_committing). A failed commit fails
// the streamer, and with it the training.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "engine/stream/streamer.h"
#include "engine/train/report.h"
#include "storage/space.h"
#include "storage/store.h"

namespace headrace::train {

class Committer {
 public:
  // `waiter`: what a full disk means; null: an error. `committed` is told each step that counts from then on,
  // before the next one's updates begin.
  Committer(storage::Store& store, stream::Streamer& streamer, storage::SpaceWaiter* waiter,
            std::function<void(uint64_t step)> committed);
  ~Committer();  // finishes the commit under way

  // `reports`: of the steps that it makes count.
  void commit(storage::Commit commit, std::vector<StepReport> reports);
  // Blocks until nothing is under way; throws what failed.
  void wait();
  // Reports of steps committed since the last call, in order.
  std::vector<StepReport> take_committed();

 private:
  void work();

  storage::Store& store_;
  stream::Streamer& streamer_;
  storage::SpaceWaiter* waiter_;
  std::function<void(uint64_t)> on_commit_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<std::pair<storage::Commit, std::vector<StepReport>>> due_;
  bool stopping_ = false;
  std::exception_ptr fault_;
  std::vector<StepReport> committed_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace headrace::train

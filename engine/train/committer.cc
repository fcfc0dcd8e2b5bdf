#include "engine/train/committer.h"

#include <utility>

#include "storage/error.h"

namespace headrace::train {

Committer::Committer(storage::Store& store, stream::Streamer& streamer, storage::SpaceWaiter* waiter,
                     std::function<void(uint64_t step)> committed)
    : store_(store), streamer_(streamer), waiter_(waiter), on_commit_(std::move(committed)), thread_([this] {
        work();
      }) {}

Committer::~Committer() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Committer::commit(storage::Commit commit, std::vector<StepReport> reports) {
  streamer_.set_committing(true);
  std::lock_guard lock(mutex_);
  HEADRACE_CHECK(!due_, "a step commits before the one before it has");
  due_ = {std::move(commit), std::move(reports)};
  changed_.notify_all();
}

void Committer::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !due_; });
  if (fault_) std::rethrow_exception(fault_);
}

std::vector<StepReport> Committer::take_committed() {
  std::lock_guard lock(mutex_);
  return std::exchange(committed_, {});
}

void Committer::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || due_; });
    if (!due_) return;
    const storage::Commit& commit = due_->first;  // stays until it is done: nobody else changes it
    lock.unlock();
    std::exception_ptr fault;
    try {
      streamer_.wait_for_store_writes();
      storage::with_space(waiter_, [&] { store_.commit(commit); });
      on_commit_(commit.step);
    } catch (...) {
      fault = std::current_exception();
      streamer_.fail(fault);
    }
    lock.lock();
    if (fault)
      fault_ = fault;
    else
      committed_.insert(committed_.end(), due_->second.begin(), due_->second.end());
    due_.reset();
    streamer_.set_committing(false);
    changed_.notify_all();
  }
}

}  // namespace headrace::train

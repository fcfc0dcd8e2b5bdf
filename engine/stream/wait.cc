#include "engine/stream/wait.h"

namespace headrace::stream {

void WaitList::wait(const std::function<bool()>& ready, bool suspend) {
  {
    std::unique_lock lock(mutex_);
    if (ready()) return;
    if (!kSuspendsTasks || !suspend) {
      blocked_.wait(lock, ready);
      return;
    }
  }
  oneapi::tbb::task::suspend([&](oneapi::tbb::task::suspend_point point) {
    std::lock_guard lock(mutex_);
    if (ready())
      oneapi::tbb::task::resume(point);
    else
      suspended_.push_back({&ready, point});
  });
}

void WaitList::wake() {
  for (auto waiter = suspended_.begin(); waiter != suspended_.end();) {
    if (!(*waiter->ready)()) {
      ++waiter;
      continue;
    }
    oneapi::tbb::task::resume(waiter->point);
    waiter = suspended_.erase(waiter);
  }
  blocked_.notify_all();
}

}  // namespace headrace::stream

// How a task waits for something that is not a task (the disk): the task is suspended and its worker goes on
// with other work. The one place that knows about stack switching: ThreadSanitizer does not survive it and
// AddressSanitizer may report what is not there, so their builds block the worker instead, and then a
// pipeline must not keep more than one token in flight.
#pragma once

#include <condition_variable>
#include <functional>
#include <list>
#include <mutex>

#include <oneapi/tbb/task.h>
#include <oneapi/tbb/task_arena.h>

#include "engine/math/task_order.h"

namespace headrace::stream {

#if defined(HEADRACE_THREAD_SANITIZER) || defined(HEADRACE_ADDRESS_SANITIZER)
inline constexpr bool kSuspendsTasks = false;
#else
inline constexpr bool kSuspendsTasks = true;
#endif

// Runs work that is parallel inside. While it waits for its own parts, a worker takes up no other task: one
// that suspended on top of it would hold it back, perhaps from what that task waits for.
template <typename Body>
void run_isolated(const Body& body) {
  oneapi::tbb::this_task_arena::isolate(body);
}

// Tasks waiting for conditions over state that one mutex guards.
class WaitList {
 public:
  explicit WaitList(std::mutex& mutex) : mutex_(mutex) {}

  // Returns once `ready` (called with the mutex held) is true. Must be called from inside a task where
  // `suspend` is true; otherwise it blocks the thread. The mutex must not be held.
  void wait(const std::function<bool()>& ready, bool suspend);
  // Wakes the waiters whose condition has become true. The mutex must be held.
  void wake();

 private:
  struct Waiter {
    const std::function<bool()>* ready;
    oneapi::tbb::task::suspend_point point;
  };
  std::mutex& mutex_;
  std::list<Waiter> suspended_;
  std::condition_variable blocked_;
};

}  // namespace headrace::stream

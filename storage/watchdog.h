// Gives up requests that a drive never answers: a thread beside a back end that lets the ticks of its
// TransferQueue pass and delivers what the queue gives up.
//
// After a request was given up the kernel may still use its buffer, at any time: no AlignedMemory is unmapped
// from then on (AlignedMemory::keep_all), the back end leaks what its threads and the kernel refer to, and
// the process should end. Time is counted in ticks that the thread has seen, not by the clock: a process that
// was stopped for an hour has not waited for its drive.
//
// Threads: as each function says. Failure: none; what is given up fails its request.
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "storage/transfer_queue.h"

namespace headrace::storage {

// Hands completions to their listeners, one at a time, whichever thread they come from.
class Delivery {
 public:
  explicit Delivery(std::mutex& queue_mutex) : queue_mutex_(queue_mutex) {}
  // With the queue's mutex held, before it is released to deliver.
  void announce(size_t completions) { undelivered_ += completions; }
  // Without it.
  void deliver(IoCompletion& completion);
  // Until everything announced is delivered and `queue` is empty; `lock` holds the queue's mutex.
  void wait_until_over(std::unique_lock<std::mutex>& lock, const TransferQueue& queue);

 private:
  std::mutex& queue_mutex_;
  std::mutex one_at_a_time_;  // held while a listener runs; never with queue_mutex_
  std::condition_variable delivered_;
  size_t undelivered_ = 0;
};

class Watchdog {
 public:
  // All must outlive this, or be leaked with it.
  Watchdog(std::mutex& queue_mutex, TransferQueue& queue, Delivery& delivery,
           std::chrono::milliseconds limit);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Requests were pushed after one had been given up: they fail at once. With the queue's mutex held.
  void fail_new_requests();

 private:
  void watch();

  std::mutex& queue_mutex_;
  TransferQueue& queue_;
  Delivery& delivery_;
  const std::chrono::milliseconds tick_;
  std::condition_variable changed_;
  bool new_requests_ = false, stopping_ = false;
  std::thread thread_;
};

// A back end that cannot always be destroyed: threads and kernel may refer to it for ever.
class StoppableIo : public BlockIo {
 public:
  // Waits until every request is over. False: one was given up, and this must not be destroyed.
  virtual bool stop() = 0;
};

// Owns such a back end as everyone owns a BlockIo; leaks it where stop() says so.
std::unique_ptr<BlockIo> own_stoppable(std::unique_ptr<StoppableIo> io);

}  // namespace headrace::storage

#include "storage/block_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "storage/thread_io.h"

namespace headrace::storage {

namespace {

constexpr size_t kWindow = 512;  // requests that transfer_and_wait() adds to those outstanding

class Waiter final : public IoListener {
 public:
  void io_done(uint64_t, std::exception_ptr error) override {
    const std::lock_guard lock(mutex_);
    if (error && !error_) error_ = std::move(error);
    --outstanding_;
    changed_.notify_one();  // under the lock: the waiter may be gone as soon as it is released
  }

  // Waits until at most `most` requests are outstanding; false after an error.
  bool wait_for(size_t most) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return outstanding_ <= most; });
    return !error_;
  }

  void add(size_t requests) {
    const std::lock_guard lock(mutex_);
    outstanding_ += requests;
  }

  std::exception_ptr error() const { return error_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t outstanding_ = 0;
  std::exception_ptr error_;
};

}  // namespace

std::unique_ptr<BlockIo> make_block_io(const IoOptions& options) {
  switch (options.backend) {
    case IoBackend::kUring:
      return make_uring_io(options);
    case IoBackend::kThreads:
      return make_thread_io(options);
    case IoBackend::kAuto:
      break;
  }
  try {
    return make_uring_io(options);
  } catch (const IoError& error) {
    return make_thread_io(options, system_transfer_calls(),
                          fmt::format("threads ({}; {})", options.threads, error.what()));
  }
}

void transfer_and_wait(BlockIo& io, std::span<IoRequest> requests) {
  Waiter waiter;
  for (IoRequest& request : requests) request.listener = &waiter;
  for (size_t first = 0; first < requests.size();) {
    const std::span<IoRequest> some = requests.subspan(first, std::min(kWindow / 2, requests.size() - first));
    if (!waiter.wait_for(kWindow - some.size())) break;
    waiter.add(some.size());
    io.submit(some);
    first += some.size();
  }
  waiter.wait_for(0);
  if (waiter.error()) std::rethrow_exception(waiter.error());
}

}  // namespace headrace::storage

#include "storage/thread_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "storage/io_thread.h"
#include "storage/transfer.h"
#include "storage/transfer_queue.h"
#include "storage/watchdog.h"

namespace headrace::storage {

namespace {

int64_t or_errno(int64_t result) { return result < 0 ? -errno : result; }

class ThreadIo final : public StoppableIo {
 public:
  ThreadIo(const IoOptions& options, TransferCalls calls, std::string description)
      : calls_(std::move(calls)),
        description_(std::move(description)),
        queue_(options),
        watchdog_(mutex_, queue_, delivery_, std::chrono::milliseconds(options.stuck_ms)) {
    workers_.reserve(options.threads);
    try {
      for (uint32_t i = 0; i < options.threads; ++i) workers_.push_back(start_io_thread([this] { work(); }));
    } catch (...) {
      stop();
      throw;
    }
  }

  ThreadIo(const ThreadIo&) = delete;
  ThreadIo& operator=(const ThreadIo&) = delete;

  FileIndex add_file(const IoFile& file) override {
    const std::lock_guard lock(mutex_);
    return queue_.add_file(file);
  }

  void register_memory(std::span<std::byte>) override {}  // nothing to gain for pread and pwrite

  void submit(std::span<const IoRequest> requests) override {
    {
      const std::lock_guard lock(mutex_);
      queue_.push(requests);
      if (queue_.gave_up()) watchdog_.fail_new_requests();
    }
    work_waits_.notify_all();
  }

  IoCounters counters() const override {
    const std::lock_guard lock(mutex_);
    return queue_.counters();
  }

  std::string description() const override { return description_; }

  bool stop() override {
    {
      std::unique_lock lock(mutex_);
      stopping_ = true;
      work_waits_.notify_all();
      delivery_.wait_until_over(lock, queue_);
      if (queue_.gave_up()) {
        for (std::thread& worker : workers_) worker.detach();  // one of them waits for the answer
        return false;
      }
    }
    for (std::thread& worker : workers_) worker.join();
    return true;
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Transfer* const transfer = queue_.next();
      if (transfer == nullptr) {
        if (stopping_) return;  // what waits for a place is for the worker that frees it
        work_waits_.wait(lock);
        continue;
      }
      lock.unlock();
      std::exception_ptr error = perform(*transfer);
      lock.lock();
      std::optional<IoCompletion> completion = queue_.finish(*transfer, std::move(error));
      if (!completion) continue;
      delivery_.announce(1);
      lock.unlock();
      work_waits_.notify_one();  // takes the freed place in the drive's depth while this thread delivers
      delivery_.deliver(*completion);
      lock.lock();
    }
  }

  std::exception_ptr perform(Transfer& transfer) {
    for (;;) {
      TransferVerdict verdict = apply_result(transfer, call(transfer));
      if (verdict.next == TransferNext::kDone) return std::move(verdict.error);
      {
        const std::lock_guard lock(mutex_);
        if (transfer.given_up) return nullptr;  // its buffer is no longer ours
      }
      if (verdict.next == TransferNext::kAgainLater)
        std::this_thread::sleep_for(std::chrono::microseconds(kBusyPauseMicroseconds));
    }
  }

  int64_t call(const Transfer& transfer) const {
    const int descriptor = transfer.file->descriptor;
    switch (transfer.step) {
      case TransferStep::kRead:
        return calls_.read(descriptor, transfer.next_data(), transfer.bytes_left(), transfer.next_offset());
      case TransferStep::kWrite:
        return calls_.write(descriptor, transfer.next_data(), transfer.bytes_left(), transfer.next_offset());
      case TransferStep::kSync:
        return calls_.sync(descriptor);
      case TransferStep::kFlush:
        return calls_.flush(descriptor, transfer.offset, transfer.bytes);
      case TransferStep::kDrop:
        return calls_.drop(descriptor, transfer.offset, transfer.bytes);
    }
    return -EINVAL;
  }

  const TransferCalls calls_;
  const std::string description_;
  mutable std::mutex mutex_;  // guards queue_ and stopping_
  std::condition_variable work_waits_;
  TransferQueue queue_;
  bool stopping_ = false;
  Delivery delivery_{mutex_};
  Watchdog watchdog_;
  std::vector<std::thread> workers_;
};

}  // namespace

TransferCalls system_transfer_calls() {
  TransferCalls calls;
  calls.read = [](int descriptor, std::byte* data, uint64_t bytes, uint64_t offset) {
    return or_errno(::pread(descriptor, data, bytes, static_cast<off_t>(offset)));
  };
  calls.write = [](int descriptor, const std::byte* data, uint64_t bytes, uint64_t offset) {
    return or_errno(::pwrite(descriptor, data, bytes, static_cast<off_t>(offset)));
  };
  calls.sync = [](int descriptor) { return or_errno(::fdatasync(descriptor)); };
  calls.flush = [](int descriptor, uint64_t offset, uint64_t bytes) {
    return or_errno(
        ::sync_file_range(descriptor, static_cast<off64_t>(offset), static_cast<off64_t>(bytes),
                          SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER));
  };
  calls.drop = [](int descriptor, uint64_t offset, uint64_t bytes) {
    return -int64_t{::posix_fadvise(descriptor, static_cast<off_t>(offset), static_cast<off_t>(bytes),
                                    POSIX_FADV_DONTNEED)};
  };
  return calls;
}

std::unique_ptr<BlockIo> make_thread_io(const IoOptions& options, TransferCalls calls,
                                        std::string description) {
  return own_stoppable(std::make_unique<ThreadIo>(options, std::move(calls), std::move(description)));
}

std::unique_ptr<BlockIo> make_thread_io(const IoOptions& options) {
  return make_thread_io(options, system_transfer_calls(), fmt::format("threads ({})", options.threads));
}

}  // namespace headrace::storage

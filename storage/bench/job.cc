#include "storage/bench/job.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <utility>

#include "storage/bench/cpu_time.h"
#include "storage/error.h"

namespace headrace::bench {
namespace {

using Clock = std::chrono::steady_clock;
using storage::IoKind;

constexpr uint64_t kPageBytes = 4096;
constexpr auto kProgressEvery = std::chrono::milliseconds(100);

double seconds_between(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

// Keeps every stream at its depth: a completed request's place is taken by the stream's next one at once, on
// the back end's thread.
class Runner final : public storage::IoListener {
 public:
  Runner(storage::BlockIo& io, std::span<const Stream> streams, std::span<std::byte> memory,
         const JobOptions& options)
      : io_(io), options_(options) {
    std::byte* data = memory.data();
    for (const Stream& stream : streams) {
      for (uint32_t i = 0; i < stream.depth; ++i, data += stream.max_bytes) {
        slots_.push_back({stream.pattern, stream.max_bytes, data, {}, {}, false});
      }
    }
    HEADRACE_CHECK(data <= memory.data() + memory.size(), "a job's memory holds its buffers");
  }

  JobResult run() {
    const CpuTime cpu_before = CpuTime::now();
    start_ = last_completion_ = Clock::now();
    end_ = options_.runtime_seconds > 0
               ? start_ + std::chrono::duration_cast<Clock::duration>(
                              std::chrono::duration<double>(options_.runtime_seconds))
               : Clock::time_point::max();
    begin();
    wait();
    if (error_) std::rethrow_exception(error_);
    if (options_.end_fsync) sync_written();
    result_.seconds = seconds_between(start_, last_completion_);
    result_.set_cpu_time(cpu_before, CpuTime::now());
    result_.window_seconds = windows_.window_seconds();
    result_.windows = windows_.windows();
    return std::move(result_);
  }

  void io_done(uint64_t tag, std::exception_ptr error) override {
    const Clock::time_point now = Clock::now();
    const std::lock_guard lock(mutex_);
    Slot& slot = slots_[tag];
    slot.in_flight = false;
    --in_flight_;
    if (error) {
      if (!error_) error_ = std::move(error);
    } else {
      count(slot, now);
    }
    storage::IoRequest request;
    if (prepare(slot, now, request)) io_.submit({&request, 1});
    if (in_flight_ == 0)
      finished_.notify_all();  // under the lock: the waiter may be gone once it is released
  }

 private:
  struct Slot {
    Pattern* pattern;
    uint64_t max_bytes;
    std::byte* data;
    Access access;
    Clock::time_point submitted;
    bool in_flight;
  };

  bool ending(Clock::time_point now) {
    if (error_ || now >= end_) return true;
    if (options_.stop == nullptr || *options_.stop == 0) return false;
    result_.stopped = true;
    return true;
  }

  // The request that puts the slot to work again; false when there is none. With the lock.
  bool prepare(Slot& slot, Clock::time_point now, storage::IoRequest& request) {
    if (ending(now) || !slot.pattern->next(slot.access)) return false;
    const Access& access = slot.access;
    HEADRACE_CHECK(access.bytes <= slot.max_bytes, "a pattern's request fits its stream's buffers");
    HEADRACE_CHECK(access.kind != IoKind::kSync, "a pattern reads and writes");
    if (access.kind == IoKind::kWrite) {
      stamp_pages({slot.data, access.bytes}, access.offset, number_++);
      written_files_.insert(access.file);
    }
    slot.in_flight = true;
    ++in_flight_;
    slot.submitted = Clock::now();
    const auto tag = static_cast<uint64_t>(&slot - slots_.data());
    request = {access.kind, access.file, access.offset, slot.data, access.bytes, this, tag};
    return true;
  }

  void begin() {
    std::vector<storage::IoRequest> requests;
    const std::lock_guard lock(mutex_);
    for (Slot& slot : slots_) {
      storage::IoRequest request;
      if (prepare(slot, start_, request)) requests.push_back(request);
    }
    io_.submit(requests);
  }

  void count(const Slot& slot, Clock::time_point now) {
    const auto latency = static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(now - slot.submitted).count());
    result_.add(slot.access, latency);
    last_completion_ = now;
    windows_.add(seconds_between(start_, now), slot.access.kind == IoKind::kRead, slot.access.bytes, latency);
  }

  void wait() {
    std::unique_lock lock(mutex_);
    while (!finished_.wait_for(lock, kProgressEvery, [&] { return in_flight_ == 0; })) {
      if (!options_.progress) continue;
      const uint64_t bytes = result_.bytes();
      lock.unlock();
      options_.progress(seconds_between(start_, Clock::now()), bytes);
      lock.lock();
    }
  }

  void sync_written() {
    std::vector<storage::IoRequest> syncs;
    for (const storage::FileIndex file : written_files_) {
      syncs.push_back({IoKind::kSync, file, 0, nullptr, 0, nullptr, 0});
    }
    storage::transfer_and_wait(io_, syncs);
    if (!syncs.empty()) last_completion_ = Clock::now();
  }

  storage::BlockIo& io_;
  const JobOptions& options_;
  Clock::time_point start_, end_, last_completion_;

  std::mutex mutex_;  // guards what follows while requests are in flight
  std::condition_variable finished_;
  std::vector<Slot> slots_;
  size_t in_flight_ = 0;
  uint64_t number_ = 0;
  std::set<storage::FileIndex> written_files_;  // a node at a file's first write
  JobResult result_;
  WindowCounter windows_;
  std::exception_ptr error_;
};

double per_second(uint64_t bytes, double seconds) {
  return seconds > 0 ? static_cast<double>(bytes) / seconds : 0;
}

}  // namespace

void JobResult::add(const Access& access, uint64_t latency_ns) {
  DirectionResult& direction = access.kind == IoKind::kRead ? read : write;
  direction.bytes += access.bytes;
  direction.requests += 1;
  direction.latency.add(latency_ns);
}

void JobResult::set_cpu_time(const CpuTime& before, const CpuTime& after) {
  user_cpu_seconds = after.user_seconds - before.user_seconds;
  system_cpu_seconds = after.system_seconds - before.system_seconds;
  const double caller = after.caller_seconds - before.caller_seconds;
  io_thread_cpu_seconds = std::max(0.0, user_cpu_seconds + system_cpu_seconds - caller);
}

double JobResult::read_bytes_per_second() const { return per_second(read.bytes, seconds); }
double JobResult::written_bytes_per_second() const { return per_second(write.bytes, seconds); }

double JobResult::cpu_seconds_per_gb() const {
  if (bytes() == 0) return 0;
  return (user_cpu_seconds + system_cpu_seconds) / (static_cast<double>(bytes()) / 1e9);
}

uint64_t buffer_bytes(std::span<const Stream> streams) {
  uint64_t bytes = 0;
  for (const Stream& stream : streams) bytes += stream.depth * stream.max_bytes;
  return bytes;
}

JobResult run_job(storage::BlockIo& io, std::span<const Stream> streams, std::span<std::byte> memory,
                  const JobOptions& options) {
  return Runner(io, streams, memory, options).run();
}

void fill_random(std::span<std::byte> memory, uint64_t seed) {
  // splitmix64 (S. Vigna)
  uint64_t state = seed;
  for (uint64_t at = 0; at < memory.size(); at += sizeof state) {
    state += 0x9e3779b97f4a7c15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    z ^= z >> 31;
    std::memcpy(memory.data() + at, &z, std::min<uint64_t>(sizeof z, memory.size() - at));
  }
}

void stamp_pages(std::span<std::byte> data, uint64_t offset, uint64_t number) {
  for (uint64_t at = 0; at + kPageBytes <= data.size(); at += kPageBytes) {
    const uint64_t mark[2] = {offset + at, number};
    std::memcpy(data.data() + at, mark, sizeof mark);
  }
}

void WindowCounter::add(double seconds, bool is_read, uint64_t bytes, uint64_t latency_ns) {
  while (seconds >= window_seconds_ * kMostWindows) halve();
  const auto index = static_cast<size_t>(std::max(0.0, seconds) / window_seconds_);
  const size_t inside = std::min(index, kMostWindows - 1);
  if (windows_.size() <= inside) windows_.resize(inside + 1);
  Window& window = windows_[inside];
  (is_read ? window.read_bytes : window.written_bytes) += bytes;
  window.max_latency_ns = std::max(window.max_latency_ns, latency_ns);
}

void WindowCounter::halve() {
  for (size_t i = 0; i < windows_.size(); ++i) {
    const Window window = windows_[i];
    if (i % 2 == 0) {
      windows_[i / 2] = window;
    } else {
      Window& to = windows_[i / 2];
      to.read_bytes += window.read_bytes;
      to.written_bytes += window.written_bytes;
      to.max_latency_ns = std::max(to.max_latency_ns, window.max_latency_ns);
    }
  }
  windows_.resize((windows_.size() + 1) / 2);
  window_seconds_ *= 2;
}

}  // namespace headrace::bench

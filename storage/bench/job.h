// A job: patterns of reads and writes over files, each kept at a depth through block I/O as training's are,
// and what was measured: bytes, the latency of every request, the rate over time, processor time.
//
// Ownership: the caller owns the BlockIo, the memory and the patterns; run_job() refers to them until it
// returns. Threads: run_job() blocks its caller; patterns are asked on the back end's thread, one at a time
// and never two at once. Failure: the first failed request ends the job once all in flight are done, and its
// Error is thrown; nothing of a failed job is a result.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "storage/bench/cpu_time.h"
#include "storage/bench/latency_histogram.h"
#include "storage/block_io.h"

namespace headrace::bench {

// One request. Reads and writes only.
struct Access {
  storage::IoKind kind = storage::IoKind::kRead;
  storage::FileIndex file = 0;
  uint64_t offset = 0, bytes = 0;
};

class Pattern {
 public:
  virtual ~Pattern() = default;
  // The next request; false at the end. Called from the back end's thread: must be short and not throw.
  virtual bool next(Access& access) = 0;
};

// A pattern that is kept at `depth` requests in flight.
struct Stream {
  Pattern* pattern = nullptr;
  uint32_t depth = 1;
  uint64_t max_bytes = 0;  // of a request; a multiple of 4096
};

struct JobOptions {
  // When this has passed no request begins any more; 0: until the patterns end.
  double runtime_seconds = 0;
  // Becomes other than zero when the job is to end early, as after runtime_seconds. May be null.
  const std::atomic<int>* stop = nullptr;
  // After the last write, sync the files that were written; the time counts.
  bool end_fsync = false;
  // Called on the caller's thread a few times a second: seconds since the beginning and bytes moved.
  std::function<void(double seconds, uint64_t bytes)> progress;
};

struct DirectionResult {
  uint64_t bytes = 0, requests = 0;
  LatencyHistogram latency;  // from submit() to the completion of the request
};

// What was completed in [i * window_seconds, (i + 1) * window_seconds).
struct Window {
  uint64_t read_bytes = 0, written_bytes = 0;
  uint64_t max_latency_ns = 0;  // of the requests completed in it
};

struct JobResult {
  double seconds = 0;  // from the first submission to the last completion (or sync)
  DirectionResult read, write;
  double window_seconds = 0;
  std::vector<Window> windows;  // the last may be cut off
  // Processor time of the whole process; of it, of threads other than the caller's: block I/O's.
  double user_cpu_seconds = 0, system_cpu_seconds = 0, io_thread_cpu_seconds = 0;
  bool stopped = false;  // by JobOptions::stop, before its end

  uint64_t bytes() const { return read.bytes + write.bytes; }
  double read_bytes_per_second() const;
  double written_bytes_per_second() const;
  double cpu_seconds_per_gb() const;                    // of 10^9 bytes
  void add(const Access& access, uint64_t latency_ns);  // a completed request
  void set_cpu_time(const CpuTime& before, const CpuTime& after);
};

// The memory that run_job() needs for its buffers.
uint64_t buffer_bytes(std::span<const Stream> streams);

// Runs the streams at the same time to their end. `memory` begins on a page; what is written comes from it:
// the caller has filled it with content (fill_random()), and each page of it is stamped with its place and
// the number of its request when it is written, so that no two pages are equal. The BlockIo's
// IoOptions::depth and max_requests must allow for all depths together. The BlockIo must be idle.
JobResult run_job(storage::BlockIo& io, std::span<const Stream> streams, std::span<std::byte> memory,
                  const JobOptions& options);

// Bytes that neither compress nor repeat; the same for the same seed.
void fill_random(std::span<std::byte> memory, uint64_t seed);

// Marks each page of what is about to be written at `offset` with its place and the number of the request.
void stamp_pages(std::span<std::byte> data, uint64_t offset, uint64_t number);

// Counts bytes by the time of their completion in at most kMostWindows windows: when time outgrows them, two
// become one.
class WindowCounter {
 public:
  static constexpr size_t kMostWindows = 512;
  static constexpr double kFirstWindowSeconds = 0.1;

  WindowCounter() { windows_.reserve(kMostWindows); }
  void add(double seconds, bool is_read, uint64_t bytes, uint64_t latency_ns);
  double window_seconds() const { return window_seconds_; }
  const std::vector<Window>& windows() const { return windows_; }

 private:
  void halve();

  double window_seconds_ = kFirstWindowSeconds;
  std::vector<Window> windows_;
};

}  // namespace headrace::bench

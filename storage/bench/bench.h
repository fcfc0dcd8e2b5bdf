// A benchmark of directories: which jobs it runs, over which files, in which order. Knows no command line.
//
// Threads: run_bench() blocks its caller. Failure: Error; its files have no names and vanish with it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "storage/bench/report.h"
#include "storage/bench/scratch_file.h"

namespace headrace::bench {

enum class Measure : uint8_t {
  kStandard,   // each of `rw` on each directory, then striped over all
  kBackends,   // io_uring, threads and plain LMDB side by side, on each directory
  kSweep,      // block sizes by depths, on each directory
  kSustained,  // writes for long, on each directory
};

struct BenchOptions {
  std::vector<std::string> directories;
  std::vector<Measure> measures = {Measure::kStandard};
  std::vector<ReadWrite> rw = {ReadWrite::kRead, ReadWrite::kWrite, ReadWrite::kMixed};
  Engine engine = Engine::kAuto;
  uint64_t block_bytes = uint64_t{1} << 20;
  uint64_t size_bytes = 0;  // of a file; 0: chosen, by what is free
  uint32_t depth = 16, jobs = 1;
  uint32_t mix_read_percent = 50;
  double runtime_seconds = 0;  // of a job; 0: until the size is covered
  bool time_based = false;     // goes on until runtime_seconds
  DirectMode direct = DirectMode::kAuto;
  bool end_fsync = false;
  uint64_t seed = 1;
  // Of writes for long and of a point of the sweep; set from the above, or chosen.
  double sustained_seconds = 0, sweep_seconds = 0;
  uint64_t sustained_size_bytes = 0;
  std::vector<uint64_t> sweep_block_bytes = {4096, 16384, 65536, 262144, 1048576, 4194304};
  std::vector<uint32_t> sweep_depths = {1, 4, 16, 64};
};

struct BenchListener {
  // `phase`: "read, /mnt/a"; `fraction` of all that is to be done.
  std::function<void(const std::string& phase, double fraction)> working;
  std::function<void(const Record& record)> measured;
};

// The memory that the buffers of the largest job take, in bytes.
uint64_t largest_buffers(const BenchOptions& options);

// Measures until done or `stop` becomes other than zero; then what was measured so far, marked as stopped.
Report run_bench(const BenchOptions& options, const BenchListener& listener, const std::atomic<int>& stop);

}  // namespace headrace::bench

// Plain LMDB, as its naive user has it: every block is a value, put and got through the map, with
// transactions that are synced when they commit. What the store's way of moving bytes is to be compared with.
//
// Ownership: a nameless file that vanishes with this. Threads: one. Failure: Error.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "storage/bench/job.h"

namespace headrace::bench {

class LmdbEngine {
 public:
  static constexpr uint64_t kTransactionBytes = uint64_t{64} << 20;  // of values, then it commits
  // What `values` values of `value_bytes` may take on disk, being overwritten.
  static uint64_t file_bytes(uint64_t values, uint64_t value_bytes);

  // Makes an environment for `values` values of `value_bytes`, which are written to it from `memory`.
  LmdbEngine(const std::string& directory, uint64_t values, uint64_t value_bytes);
  ~LmdbEngine();
  LmdbEngine(const LmdbEngine&) = delete;
  LmdbEngine& operator=(const LmdbEngine&) = delete;

  // Runs a pattern whose accesses have this engine's value size (offset / value_bytes is the key), one after
  // the other; options.end_fsync is always true of what is written. `memory` holds two values: the first is
  // written, the second read to. What the page cache holds of the file is dropped first. A value that was
  // never put is an Error.
  JobResult run(Pattern& pattern, std::span<std::byte> memory, const JobOptions& options);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace headrace::bench

// What a benchmark found: the facts of the directories and a record for each job. Plain data; tools print it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/bench/directory_facts.h"
#include "storage/bench/job.h"
#include "storage/bench/patterns.h"

namespace headrace::bench {

enum class Engine : uint8_t { kAuto, kUring, kThreads, kLmdb };
std::string_view engine_name(Engine engine);  // "auto", "io_uring", "threads", "lmdb"

// One job as it ran.
struct Record {
  std::string group;                     // "fill", "standard", "backends", "sweep", "sustained"
  std::vector<std::string> directories;  // more than one: striped over them
  ReadWrite rw = ReadWrite::kRead;
  uint64_t block_bytes = 0, size_bytes = 0;  // size of a file: one for each of `jobs` in each directory
  uint32_t depth = 0, jobs = 1;
  uint32_t mix_read_percent = 50;
  double runtime_seconds = 0;  // 0: until the size was covered
  bool time_based = false, end_fsync = false;
  bool direct = false;
  Engine engine = Engine::kAuto;   // as asked for
  std::string engine_description;  // as it was: "io_uring, registered buffers"
  JobResult result;
  std::string from_cache;  // why this looks like memory and not like a drive; empty: it does not
};

struct Report {
  int64_t unix_seconds = 0;  // when it began
  SystemFacts system;
  std::vector<DirectoryFacts> directories;
  std::vector<std::vector<Finding>> findings;  // of each directory
  std::vector<std::string> notes;              // what was done and chosen, sentences without full stop
  std::vector<Record> records;
  bool stopped = false;  // before all was measured
};

// Where the rate of writing fell for good: the drive's fast cache was full.
struct RateDrop {
  double at_seconds = 0;
  uint64_t after_bytes = 0;
  double before_bytes_per_second = 0, after_bytes_per_second = 0;
};
// The split of the windows that explains their rates best, where the rate after it is below 70% of that
// before and both parts last; nothing otherwise.
std::optional<RateDrop> find_rate_drop(const JobResult& result);

// Why a result can only come from memory: a rate or a latency that no drive has. Empty: nothing says so.
std::string memory_like(const JobResult& result, uint64_t block_bytes);

}  // namespace headrace::bench

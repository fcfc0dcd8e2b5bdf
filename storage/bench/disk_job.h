// A record's job over files on disk: makes the block I/O that the record asks for, the patterns and the
// buffers, and runs them.
//
// Failure: Error, also where the record's engine is refused.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/bench/report.h"
#include "storage/file.h"

namespace headrace::bench {

struct JobFile {
  const storage::BlockFile* file = nullptr;
  uint32_t drive = 0;  // files of one drive share its depth
};

// Memory for buffers, filled with random bytes once and used by one job after the other.
class BufferMemory {
 public:
  explicit BufferMemory(uint64_t seed) : seed_(seed) {}
  std::span<std::byte> take(uint64_t bytes);

 private:
  uint64_t seed_;
  storage::AlignedMemory memory_;
};

// Runs `record` as it is filled in, with files[j] the files of its job number j, over which that job's blocks
// go round; and fills in its engine_description, direct, result, and from_cache where the page cache kept the
// file. `options` but for what the record says.
void run_disk_job(Record& record, std::span<const std::vector<JobFile>> files, BufferMemory& memory,
                  uint64_t seed, JobOptions options);

}  // namespace headrace::bench

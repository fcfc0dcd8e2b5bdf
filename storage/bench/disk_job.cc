#include "storage/bench/disk_job.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <utility>

#include "storage/bench/scratch_file.h"
#include "storage/error.h"

namespace headrace::bench {
namespace {

constexpr uint32_t kMostIoThreads = 1024;
constexpr uint32_t kLeastRequests = 64;  // also for the syncs of files
constexpr double kResidentShare = 0.02;  // of a file's pages in the page cache: no more than by chance

storage::IoBackend backend_of(Engine engine) {
  switch (engine) {
    case Engine::kUring:
      return storage::IoBackend::kUring;
    case Engine::kThreads:
      return storage::IoBackend::kThreads;
    case Engine::kAuto:
    case Engine::kLmdb:
      break;
  }
  HEADRACE_CHECK(engine == Engine::kAuto, "LMDB moves no blocks");
  return storage::IoBackend::kAuto;
}

// One request is one system call, and the depth is that of the drive, as with fio.
storage::IoOptions io_options(const Record& record, uint32_t drives) {
  storage::IoOptions options;
  options.backend = backend_of(record.engine);
  options.depth = record.depth * record.jobs;
  options.transfer_bytes = record.block_bytes;
  options.max_requests = std::max(options.depth * drives, kLeastRequests);
  options.threads = std::min(options.depth * drives, kMostIoThreads);
  return options;
}

FilePatternOptions pattern_options(const Record& record, std::vector<storage::FileIndex> files,
                                   uint64_t seed) {
  FilePatternOptions options;
  options.rw = record.rw;
  options.files = std::move(files);
  options.file_bytes = record.size_bytes;
  options.block_bytes = record.block_bytes;
  options.mix_read_percent = record.mix_read_percent;
  options.endless = record.time_based;
  options.seed = seed;
  return options;
}

}  // namespace

std::span<std::byte> BufferMemory::take(uint64_t bytes) {
  if (memory_.size() < bytes) {
    memory_ = storage::AlignedMemory(bytes);
    fill_random(memory_.span(), seed_);
  }
  return memory_.span().first(bytes);
}

void run_disk_job(Record& record, std::span<const std::vector<JobFile>> files, BufferMemory& memory,
                  uint64_t seed, JobOptions options) {
  options.runtime_seconds = record.runtime_seconds;
  options.end_fsync = record.end_fsync;
  std::set<uint32_t> drives;
  double resident = 0;
  record.direct = true;
  for (const std::vector<JobFile>& of_job : files) {
    for (const JobFile& file : of_job) {
      drives.insert(file.drive);
      if (file.file->direct) continue;
      record.direct = false;
      resident = std::max(resident, drop_from_cache(*file.file, record.size_bytes));
    }
  }

  const auto drive_count = static_cast<uint32_t>(drives.size());
  const auto io = storage::make_block_io(io_options(record, drive_count));
  std::deque<FilePattern> patterns;
  std::vector<Stream> streams;
  for (uint32_t job = 0; job < record.jobs; ++job) {
    std::vector<storage::FileIndex> indexes;
    for (const JobFile& file : files[job]) indexes.push_back(io->add_file(file.file->io_file(file.drive)));
    patterns.emplace_back(pattern_options(record, std::move(indexes), seed + job));
    streams.push_back({&patterns.back(), record.depth * drive_count, record.block_bytes});
  }
  const std::span<std::byte> buffers = memory.take(buffer_bytes(streams));
  io->register_memory(buffers);
  record.result = run_job(*io, streams, buffers, options);
  record.engine_description = io->description();
  if (resident > kResidentShare) {
    record.from_cache = fmt::format("{:.0f}% of the file stayed in the page cache", 100 * resident);
  }
}

}  // namespace headrace::bench

#include "storage/bench/job.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "storage/aligned_memory.h"
#include "storage/bench/disk_job.h"
#include "storage/bench/lmdb_engine.h"
#include "storage/bench/patterns.h"
#include "storage/bench/scratch_file.h"
#include "tests/support/faulty_io.h"
#include "tests/support/memory_io.h"
#include "tests/support/temporary_directory.h"

namespace headrace::bench {
namespace {

using storage::IoKind;

constexpr uint64_t kBlock = 16384;

// A pattern that remembers what it was asked for.
class Recorded final : public Pattern {
 public:
  explicit Recorded(FilePatternOptions options) : pattern_(std::move(options)) {}
  bool next(Access& access) override {
    if (!pattern_.next(access)) return false;
    reads += access.kind == IoKind::kRead;
    writes += access.kind == IoKind::kWrite;
    return true;
  }
  uint64_t reads = 0, writes = 0;

 private:
  FilePattern pattern_;
};

FilePatternOptions options(ReadWrite rw, uint64_t blocks, std::vector<storage::FileIndex> files) {
  FilePatternOptions result;
  result.rw = rw;
  result.files = std::move(files);
  result.file_bytes = blocks * kBlock;
  result.block_bytes = kBlock;
  return result;
}

class Job : public ::testing::Test {
 protected:
  JobResult run(storage::BlockIo& io, Pattern& pattern, uint32_t depth, const JobOptions& job = {}) {
    const Stream stream{&pattern, depth, kBlock};
    memory_ = storage::AlignedMemory(buffer_bytes({&stream, 1}));
    fill_random(memory_.span(), 1);
    return run_job(io, {&stream, 1}, memory_.span(), job);
  }

  testing::TemporaryDirectory directory_;
  storage::AlignedMemory memory_;
};

TEST_F(Job, CountsEveryRequestOnceOnRealFilesWithEveryBackEnd) {
  for (const auto backend : {storage::IoBackend::kUring, storage::IoBackend::kThreads}) {
    for (const DirectMode direct : {DirectMode::kAuto, DirectMode::kNo}) {
      storage::IoOptions io_options;
      io_options.backend = backend;
      io_options.transfer_bytes = kBlock;
      const storage::BlockFile one = make_scratch_file(directory_.path(), 50 * kBlock, direct);
      const storage::BlockFile two = make_scratch_file(directory_.path(), 50 * kBlock, direct);
      const auto io = storage::make_block_io(io_options);
      const std::vector<storage::FileIndex> files{io->add_file(one.io_file(0)), io->add_file(two.io_file(0))};
      Recorded pattern(options(ReadWrite::kRandomMixed, 50, files));
      JobOptions job;
      job.end_fsync = true;
      const JobResult result = run(*io, pattern, 7, job);
      EXPECT_EQ(pattern.reads, 50u);
      EXPECT_EQ(pattern.writes, 50u);
      for (const DirectionResult* direction : {&result.read, &result.write}) {
        EXPECT_EQ(direction->requests, 50u);
        EXPECT_EQ(direction->bytes, 50 * kBlock);
        EXPECT_EQ(direction->latency.count(), 50u);
        EXPECT_GT(direction->latency.min_ns(), 0u);
      }
      EXPECT_EQ(io->counters().reads, 50u);
      EXPECT_EQ(io->counters().writes, 50u);
      EXPECT_EQ(io->counters().syncs, result.write.requests > 0 ? 2u : 0u);
      uint64_t in_windows = 0;
      for (const Window& window : result.windows) in_windows += window.read_bytes + window.written_bytes;
      EXPECT_EQ(in_windows, result.bytes());
      EXPECT_GT(result.seconds, 0);
      EXPECT_FALSE(result.stopped);
    }
  }
}

TEST_F(Job, WritesPagesThatSayWhereTheyLieAndNeverRepeat) {
  constexpr uint64_t kBlocks = 40, kPage = 4096;
  testing::MemoryFiles files;
  {
    const auto io = files.make_io({});
    FilePattern pattern(options(ReadWrite::kWrite, kBlocks, {io->add_file({0, "file", true, 0})}));
    run(*io, pattern, 4);
  }
  const std::vector<std::byte>& content = files.content("file");
  ASSERT_EQ(content.size(), kBlocks * kBlock);
  std::set<std::string> pages;
  for (uint64_t at = 0; at < content.size(); at += kPage) {
    uint64_t offset = 0;
    std::memcpy(&offset, content.data() + at, sizeof offset);
    EXPECT_EQ(offset, at);
    pages.emplace(reinterpret_cast<const char*>(content.data() + at), kPage);
    std::set<std::byte> values(content.begin() + at, content.begin() + at + kPage);
    EXPECT_EQ(values.size(), 256u);  // nothing to compress
  }
  EXPECT_EQ(pages.size(), kBlocks * kBlock / kPage);
}

TEST_F(Job, KeepsItsDepthAndNeverMore) {
  class DepthIo final : public storage::BlockIo {
   public:
    storage::FileIndex add_file(const storage::IoFile&) override { return 0; }
    void register_memory(std::span<std::byte>) override {}
    void submit(std::span<const storage::IoRequest> requests) override {
      for (const storage::IoRequest& request : requests) inner_->submit({&request, 1});
      most_ = std::max(most_, requests.size());
    }
    storage::IoCounters counters() const override { return inner_->counters(); }
    std::string description() const override { return ""; }
    testing::MemoryFiles files_;
    std::unique_ptr<storage::BlockIo> inner_;
    size_t most_ = 0;
  };
  DepthIo io;
  storage::IoOptions io_options;
  io_options.max_requests = 5;  // one more outstanding would abort
  io.inner_ = io.files_.make_io(io_options);
  io.inner_->add_file({0, "file", true, 0});
  FilePattern pattern(options(ReadWrite::kWrite, 100, {0}));
  EXPECT_EQ(run(io, pattern, 5).write.requests, 100u);
  EXPECT_EQ(io.most_, 5u);  // all at once in the beginning, then one for one
}

TEST_F(Job, EndsWithTheFirstErrorWhenNothingIsInFlightAnyMore) {
  testing::MemoryFiles files;
  files.content("file").resize(1000 * kBlock);
  const auto inner = files.make_io({});
  testing::Fault fault;
  fault.kind = IoKind::kRead;
  fault.number = 25;
  testing::FaultyIo io(*inner, {fault});
  FilePattern pattern(options(ReadWrite::kRead, 1000, {io.add_file({0, "file", true, 0})}));
  EXPECT_THROW(run(io, pattern, 8), storage::IoError);
  EXPECT_EQ(io.faults_met(), 1u);
  EXPECT_LE(io.submitted(IoKind::kRead), 25u + 2 * 8);
}

TEST_F(Job, StopsWhenToldAndWhenItsTimeIsOver) {
  testing::MemoryFiles files;
  files.content("file").resize(10 * kBlock);
  for (const bool by_time : {false, true}) {
    const auto io = files.make_io({});
    FilePatternOptions endless = options(ReadWrite::kRead, 10, {io->add_file({0, "file", true, 0})});
    endless.endless = true;
    FilePattern pattern(endless);
    std::atomic<int> stop{0};
    JobOptions job;
    job.stop = &stop;
    if (by_time) {
      job.runtime_seconds = 0.05;
    } else {
      job.progress = [&](double, uint64_t bytes) { stop = bytes > 0 ? 1 : 0; };
    }
    const JobResult result = run(*io, pattern, 4, job);
    EXPECT_GT(result.read.requests, 10u);
    EXPECT_EQ(result.stopped, !by_time);
  }
}

TEST(WindowCounter, LosesNoByteWhenWindowsGrow) {
  WindowCounter counter;
  uint64_t read = 0, written = 0;
  for (int i = 0; i < 5000; ++i) {
    const double seconds = 0.07 * i;  // 350 s: several times more windows than are kept
    counter.add(seconds, i % 2 == 0, static_cast<uint64_t>(i), static_cast<uint64_t>(i));
    (i % 2 == 0 ? read : written) += static_cast<uint64_t>(i);
  }
  EXPECT_LE(counter.windows().size(), WindowCounter::kMostWindows);
  EXPECT_GE(counter.window_seconds() * WindowCounter::kMostWindows, 0.07 * 4999);
  uint64_t read_in = 0, written_in = 0, most = 0;
  for (const Window& window : counter.windows()) {
    read_in += window.read_bytes;
    written_in += window.written_bytes;
    most = std::max(most, window.max_latency_ns);
  }
  EXPECT_EQ(read_in, read);
  EXPECT_EQ(written_in, written);
  EXPECT_EQ(most, 4999u);
}

TEST_F(Job, GetsThroughPlainLmdbWhatItPut) {
  LmdbEngine engine(directory_.path(), 30, kBlock);
  memory_ = storage::AlignedMemory(2 * kBlock);
  fill_random(memory_.span(), 1);
  for (const ReadWrite rw :
       {ReadWrite::kWrite, ReadWrite::kRead, ReadWrite::kRandomWrite, ReadWrite::kRandomRead}) {
    Recorded pattern(options(rw, 30, {0}));
    const JobResult result = engine.run(pattern, memory_.span(), {});
    EXPECT_EQ(result.read.requests, pattern.reads);
    EXPECT_EQ(result.write.requests, pattern.writes);
    EXPECT_EQ(result.bytes(), 30 * kBlock);
    if (rw != ReadWrite::kRandomRead) continue;
    // The last value that was got is one that was put.
    uint64_t offset = 0;
    std::memcpy(&offset, memory_.data() + kBlock, sizeof offset);
    EXPECT_LT(offset, 30 * kBlock);
    EXPECT_EQ(std::memcmp(memory_.data() + 16, memory_.data() + kBlock + 16, 4096 - 16), 0);
  }
}

}  // namespace
}  // namespace headrace::bench

// Both back ends on real files, direct and through the page cache, held to the same behaviour.
#include "storage/block_io.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/file.h"
#include "tests/support/temporary_directory.h"

namespace headrace::storage {
namespace {

using headrace::testing::TemporaryDirectory;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr uint64_t kPage = 4096;

void fill(std::span<std::byte> data, uint64_t seed) {
  std::mt19937_64 random(seed);
  for (std::byte& byte : data) byte = static_cast<std::byte>(random());
}

std::string outcome(BlockIo& io, IoRequest request) {
  try {
    transfer_and_wait(io, {&request, 1});
    return "no error";
  } catch (const IoError& error) {
    return error.what();
  }
}

struct BackendCase {
  IoBackend backend;
  bool direct;
};

class BlockIoTest : public ::testing::TestWithParam<BackendCase> {
 protected:
  void SetUp() override {
    try {
      remake(options());
    } catch (const IoError& error) {
      GTEST_SKIP() << error.what();
    }
    open("data");
    if (GetParam().direct && !file_.direct) GTEST_SKIP() << "no direct I/O here: " << file_.why_not_direct;
  }

  static IoOptions options() {
    IoOptions options;
    options.backend = GetParam().backend;
    options.transfer_bytes = 64 * 1024;  // so that requests of a test's size are cut
    options.depth = 4;
    options.threads = 4;
    return options;
  }

  void remake(const IoOptions& options) {
    io_.reset();
    io_ = make_block_io(options);
  }

  // Makes file_ and index_ mean a new empty file.
  void open(const std::string& name) {
    file_ = GetParam().direct ? open_for_blocks(directory_ / name, OpenMode::kCreate)
                              : open_buffered_for_blocks(directory_ / name, OpenMode::kCreate);
    index_ = io_->add_file(file_.io_file(0));
  }

  IoRequest read(std::span<std::byte> data, uint64_t offset) const {
    return {IoKind::kRead, index_, offset, data.data(), data.size(), nullptr, 0};
  }
  IoRequest write(std::span<std::byte> data, uint64_t offset) const {
    return {IoKind::kWrite, index_, offset, data.data(), data.size(), nullptr, 0};
  }
  void transfer(IoRequest request) { transfer_and_wait(*io_, {&request, 1}); }

  TemporaryDirectory directory_;
  BlockFile file_;
  std::unique_ptr<BlockIo> io_;  // before file_ is closed, all is complete
  FileIndex index_ = 0;
};

TEST_P(BlockIoTest, ReadsBackWhatItWroteAtManySizes) {
  const AlignedMemory memory(4 << 20);
  const std::span<std::byte> written = memory.span().first(2 << 20),
                             read_back = memory.span().subspan(2 << 20);
  std::vector<uint64_t> sizes = {kPage, 3 * kPage, 16 * kPage, 17 * kPage, 300 * kPage, 512 * kPage};
  if (!file_.direct) sizes.insert(sizes.end(), {1, 4095, 65535, 65537, 1234567});
  uint64_t offset = 0;
  for (const uint64_t bytes : sizes) {
    fill(written.first(bytes), bytes);
    transfer(write(written.first(bytes), offset));
    std::fill(read_back.begin(), read_back.end(), std::byte{0});
    transfer(read(read_back.first(bytes), offset));
    ASSERT_TRUE(
        std::equal(written.begin(), written.begin() + static_cast<ptrdiff_t>(bytes), read_back.begin()))
        << bytes << " bytes at " << offset;
    ASSERT_TRUE(std::all_of(read_back.begin() + static_cast<ptrdiff_t>(bytes), read_back.end(),
                            [](std::byte byte) { return byte == std::byte{0}; }))
        << "wrote past the buffer";
    offset += (bytes + kPage - 1) / kPage * kPage;
  }
}

TEST_P(BlockIoTest, ReadsAnUnwrittenRangeAsZeros) {
  file_.file.resize(1 << 20);
  const AlignedMemory memory(1 << 20);
  fill(memory.span(), 1);
  transfer(read(memory.span().first(1 << 20), 0));
  EXPECT_TRUE(
      std::all_of(memory.data(), memory.data() + (1 << 20), [](std::byte b) { return b == std::byte{0}; }));
}

TEST_P(BlockIoTest, CountsRequestsAndBytesThatCompleted) {
  const AlignedMemory memory(1 << 20);
  transfer(write(memory.span().first(100 * kPage), 0));
  transfer(write(memory.span().first(kPage), 0));
  transfer(read(memory.span().first(50 * kPage), 0));
  transfer({IoKind::kSync, index_, 0, nullptr, 0, nullptr, 0});
  outcome(*io_, read(memory.span().first(kPage), 1000 * kPage));
  const IoCounters counters = io_->counters();
  EXPECT_EQ(counters.writes, 2u);
  EXPECT_EQ(counters.written_bytes, 101 * kPage);
  EXPECT_EQ(counters.reads, 1u);
  EXPECT_EQ(counters.read_bytes, 50 * kPage);
  EXPECT_EQ(counters.syncs, 1u);
}

// Thousands of requests from several threads, each page with its own content; completions counted by tag.
TEST_P(BlockIoTest, CompletesThousandsOfRequestsFromSeveralThreadsOnceEach) {
  constexpr uint64_t kThreads = 4, kRequests = 1000, kAll = kThreads * kRequests;
  class Counter final : public IoListener {
   public:
    void io_done(uint64_t tag, std::exception_ptr error) override {
      if (inside_.exchange(true)) overlaps_ = true;
      if (tag % 64 == 0) std::this_thread::sleep_for(std::chrono::microseconds(50));  // long enough to be met
      if (error) failed_ = true;
      ++done_[tag];
      inside_ = false;
      ++total_;
    }
    bool wait_for(uint64_t total) const {
      for (int i = 0; i < 60000 && total_ < total; ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      return total_ == total;
    }
    std::vector<int> done_ = std::vector<int>(kAll);
    std::atomic<uint64_t> total_{0};
    std::atomic<bool> inside_{false}, overlaps_{false}, failed_{false};
  };
  const AlignedMemory memory(2 * kAll * kPage);
  fill(memory.span().first(kAll * kPage), 7);
  for (const IoKind kind : {IoKind::kWrite, IoKind::kRead}) {
    Counter counter;
    std::byte* const data = memory.data() + (kind == IoKind::kRead ? kAll * kPage : 0);
    std::vector<std::thread> threads;
    for (uint64_t t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (uint64_t i = 0; i < kRequests; i += 10) {
          std::array<IoRequest, 10> some;
          for (uint64_t j = 0; j < some.size(); ++j) {
            const uint64_t page = t * kRequests + i + j;
            some[j] = {kind, index_, page * kPage, data + page * kPage, kPage, &counter, page};
          }
          io_->submit(some);
        }
      });
    for (std::thread& thread : threads) thread.join();
    ASSERT_TRUE(counter.wait_for(kAll)) << counter.total_;
    EXPECT_FALSE(counter.overlaps_) << "two completions were delivered at the same time";
    EXPECT_FALSE(counter.failed_);
    EXPECT_TRUE(
        std::all_of(counter.done_.begin(), counter.done_.end(), [](int times) { return times == 1; }));
  }
  EXPECT_EQ(std::memcmp(memory.data(), memory.data() + kAll * kPage, kAll * kPage), 0);
}

TEST_P(BlockIoTest, LetsAListenerSubmit) {
  class Chain final : public IoListener {
   public:
    Chain(BlockIo& io, IoRequest request) : io_(io), request_(request) { request_.listener = this; }
    void io_done(uint64_t tag, std::exception_ptr error) override {
      failed_ = failed_ || error;
      if (tag > 0) {
        request_.tag = tag - 1;
        io_.submit({&request_, 1});
      } else {
        done_ = true;
      }
    }
    void start(uint64_t links) {
      request_.tag = links;
      io_.submit({&request_, 1});
    }
    BlockIo& io_;
    IoRequest request_;
    std::atomic<bool> done_{false}, failed_{false};
  };
  const AlignedMemory memory(kPage);
  Chain chain(*io_, write(memory.span().first(kPage), 0));
  chain.start(200);
  for (int i = 0; i < 60000 && !chain.done_; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_TRUE(chain.done_);
  EXPECT_FALSE(chain.failed_);
  EXPECT_EQ(io_->counters().writes, 201u);
}

TEST_P(BlockIoTest, WaitsForWhatIsInFlightWhenDestroyed) {
  class Counter final : public IoListener {
   public:
    void io_done(uint64_t, std::exception_ptr) override { ++total_; }
    std::atomic<int> total_{0};
  };
  Counter counter;
  const AlignedMemory memory(8 << 20);
  std::vector<IoRequest> requests;
  for (uint64_t i = 0; i < 100; ++i) {
    requests.push_back(write(memory.span().first(8 << 16), i << 19));
    requests.back().listener = &counter;
  }
  io_->submit(requests);
  io_.reset();
  EXPECT_EQ(counter.total_, 100);
  EXPECT_EQ(file_.file.size(), uint64_t{100} << 19);
}

TEST_P(BlockIoTest, FailsAReadPastTheEndNamingFileAndPlace) {
  const AlignedMemory memory(1 << 20);
  transfer(write(memory.span().first(20 * kPage), 0));
  IoRequest request = read(memory.span().first(32 * kPage), 0);
  try {
    transfer_and_wait(*io_, {&request, 1});
    FAIL() << "read past the end";
  } catch (const IoError& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    EXPECT_EQ(std::string(error.what()), "cannot read 65536 bytes at offset 65536 of " +
                                             (directory_ / "data") + ": end of file at 81920");
  }
}

TEST_P(BlockIoTest, FailsARequestOnABadDescriptorAndServesTheNext) {
  const AlignedMemory memory(kPage);
  IoRequest request = write(memory.span().first(kPage), 0);
  request.file = io_->add_file({1000000, "/closed", file_.direct, 0});
  EXPECT_EQ(outcome(*io_, request), "cannot write 4096 bytes at offset 0 of /closed: Bad file descriptor");
  request.kind = IoKind::kRead;
  EXPECT_EQ(outcome(*io_, request), "cannot read 4096 bytes at offset 0 of /closed: Bad file descriptor");
  request.kind = IoKind::kSync;
  EXPECT_EQ(outcome(*io_, request), "cannot sync /closed: Bad file descriptor");
  transfer(write(memory.span().first(kPage), 0));
}

TEST_P(BlockIoTest, FailsAWriteToAFileOpenedForReading) {
  const AlignedMemory memory(kPage);
  const File again = File::open(directory_ / "data", OpenMode::kRead);
  IoRequest request = write(memory.span().first(kPage), 0);
  request.file = io_->add_file({again.descriptor(), "/read-only", file_.direct, 0});
  EXPECT_THAT(outcome(*io_, request), HasSubstr("Bad file descriptor"));
  EXPECT_EQ(file_.file.size(), 0u);
}

TEST_P(BlockIoTest, ReportsOneErrorForALargeRequestAndOthersComplete) {
  const AlignedMemory memory(448 * kPage);
  transfer(write(memory.span().first(16 * kPage), 0));
  std::vector<IoRequest> requests;
  for (uint64_t i = 0; i < 20; ++i)
    requests.push_back(read(memory.span().subspan(16 * i * kPage, 16 * kPage), 0));
  // Eight transfers, all past the end.
  requests.insert(requests.begin() + 10, read(memory.span().subspan(320 * kPage, 128 * kPage), 16 * kPage));
  EXPECT_THROW(transfer_and_wait(*io_, requests), IoError);
  EXPECT_EQ(io_->counters().reads, 20u);
}

// A limit on the size of files makes the system write less than it was asked to, then nothing.
TEST_P(BlockIoTest, ContinuesAShortWriteUntilTheSystemRefuses) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit limited = before;
  limited.rlim_cur = 24 * 1024;
  const auto signal_before = std::signal(SIGXFSZ, SIG_IGN);
  const AlignedMemory memory(1 << 20);
  fill(memory.span(), 3);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  const std::string text = outcome(*io_, write(memory.span().first(16 * kPage), 0));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, signal_before);
  EXPECT_EQ(text, "cannot write 65536 bytes at offset 0 of " + (directory_ / "data") +
                      ": File too large (after 24576 bytes)");
  EXPECT_EQ(file_.file.size(), 24u * 1024);
}

TEST_P(BlockIoTest, ServesFilesOfSeveralDrives) {
  const AlignedMemory memory(4 << 20);
  std::vector<BlockFile> files;
  std::vector<IoRequest> writes, reads;
  for (uint32_t drive = 0; drive < 5; ++drive) {
    files.push_back(open_for_blocks(directory_ / ("drive" + std::to_string(drive)), OpenMode::kCreate));
    const FileIndex index = io_->add_file(files.back().io_file(drive));
    const std::span<std::byte> part = memory.span().subspan(drive * 64 * kPage, 64 * kPage);
    fill(part, drive);
    writes.push_back({IoKind::kWrite, index, 0, part.data(), part.size(), nullptr, 0});
    reads.push_back(writes.back());
    reads.back().kind = IoKind::kRead;
    reads.back().data = memory.data() + (2 << 20) + drive * 64 * kPage;
  }
  transfer_and_wait(*io_, writes);
  transfer_and_wait(*io_, reads);
  EXPECT_EQ(std::memcmp(memory.data(), memory.data() + (2 << 20), 5 * 64 * kPage), 0);
}

TEST_P(BlockIoTest, MovesThroughRegisteredMemoryAsThroughAnyOther) {
  const AlignedMemory registered(2 << 20), other(2 << 20);
  io_->register_memory(registered.span().first(1 << 20));
  fill(registered.span(), 5);
  // Inside, across the end of, and outside the registered part.
  transfer(write(registered.span().first(1 << 20), 0));
  transfer(write(registered.span().subspan((1 << 20) - 8 * kPage, 16 * kPage), 1 << 20));
  transfer(read(other.span().first((1 << 20) + 16 * kPage), 0));
  EXPECT_EQ(std::memcmp(registered.data(), other.data(), 1 << 20), 0);
  EXPECT_EQ(std::memcmp(registered.data() + (1 << 20) - 8 * kPage, other.data() + (1 << 20), 16 * kPage), 0);
  fill(other.span(), 6);
  transfer(write(other.span().first(16 * kPage), 0));
  transfer(read(registered.span().first(16 * kPage), 0));
  EXPECT_EQ(std::memcmp(registered.data(), other.data(), 16 * kPage), 0);
}

TEST_P(BlockIoTest, LeavesNothingInThePageCache) {
  constexpr uint64_t kBytes = 16 << 20;
  const AlignedMemory memory(kBytes);
  fill(memory.span(), 11);
  transfer(write(memory.span().first(kBytes), 0));
  transfer(read(memory.span().first(kBytes), 0));
  void* const mapped = ::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, file_.file.descriptor(), 0);
  ASSERT_NE(mapped, MAP_FAILED);
  std::vector<unsigned char> pages(kBytes / kPage);
  ASSERT_EQ(::mincore(mapped, kBytes, pages.data()), 0);
  ::munmap(mapped, kBytes);
  const auto resident =
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; });
  EXPECT_LE(resident, static_cast<ptrdiff_t>(pages.size() / 16));
}

TEST_P(BlockIoTest, CutsATransferAndWaitIntoMorePiecesThanItsWindow) {
  const AlignedMemory memory(2 * 1500 * kPage);
  fill(memory.span().first(1500 * kPage), 9);
  std::vector<IoRequest> writes, reads;
  for (uint64_t i = 0; i < 1500; ++i) {
    writes.push_back(write(memory.span().subspan(i * kPage, kPage), i * kPage));
    reads.push_back(read(memory.span().subspan((1500 + i) * kPage, kPage), i * kPage));
  }
  transfer_and_wait(*io_, writes);
  transfer_and_wait(*io_, reads);
  EXPECT_EQ(std::memcmp(memory.data(), memory.data() + 1500 * kPage, 1500 * kPage), 0);
}

TEST_P(BlockIoTest, DescribesItself) {
  const bool uring = GetParam().backend == IoBackend::kUring;
  EXPECT_THAT(io_->description(), StartsWith(uring ? "io_uring" : "threads (4)"));
}

INSTANTIATE_TEST_SUITE_P(
    Backends, BlockIoTest,
    ::testing::Values(BackendCase{IoBackend::kUring, true}, BackendCase{IoBackend::kUring, false},
                      BackendCase{IoBackend::kThreads, true}, BackendCase{IoBackend::kThreads, false}),
    [](const ::testing::TestParamInfo<BackendCase>& instance) {
      return std::string(instance.param.backend == IoBackend::kUring ? "Uring" : "Threads") +
             (instance.param.direct ? "Direct" : "Buffered");
    });

}  // namespace
}  // namespace headrace::storage

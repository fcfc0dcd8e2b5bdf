// Requests that are never answered: on real pipes that nobody writes to, and on threads that do not return.
#include "storage/watchdog.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <latch>
#include <string>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/file.h"
#include "storage/thread_io.h"
#include "tests/support/child_process.h"
#include "tests/support/temporary_directory.h"

namespace headrace::storage {
namespace {

using headrace::testing::run_in_child;
using headrace::testing::TemporaryDirectory;
using ::testing::HasSubstr;

IoOptions impatient() {
  IoOptions options;
  options.stuck_ms = 200;
  options.depth = 2;
  return options;
}

// A request, and what it completed with.
class Asked final : public IoListener {
 public:
  Asked(BlockIo& io, IoRequest request) {
    request.listener = this;
    io.submit({&request, 1});
  }
  void io_done(uint64_t, std::exception_ptr error) override {
    const std::lock_guard lock(mutex_);
    HEADRACE_CHECK(!done_, "a request completes once");
    if (error) {
      try {
        std::rethrow_exception(error);
      } catch (const IoError& failed) {
        what_ = failed.what() + (". " + failed.advice());
      }
    }
    done_ = true;
    changed_.notify_all();
  }
  std::string outcome() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return done_; });
    return what_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::string what_;
};

struct Pipe {
  Pipe() { HEADRACE_CHECK(::pipe(ends.data()) == 0); }
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  std::array<int, 2> ends{};
};

// Reads a pipe, too: pread does not. Counts in `answers` what the pipe answers; threads that were given up on
// outlive the back end, so it is the test's.
std::unique_ptr<BlockIo> make_threads(std::atomic<int>& answers) {
  TransferCalls calls = system_transfer_calls();
  calls.read = [real = calls.read, &answers](int descriptor, std::byte* data, uint64_t bytes,
                                             uint64_t offset) {
    int64_t moved = real(descriptor, data, bytes, offset);
    if (moved != -ESPIPE) return moved;
    moved = ::read(descriptor, data, bytes);
    answers++;
    return moved;
  };
  return make_thread_io(impatient(), calls, "threads that read pipes");
}

class StuckRequest : public ::testing::TestWithParam<IoBackend> {};

TEST_P(StuckRequest, FailsByNameAndWithItWhatHasNotBegun) {
  static std::atomic<int> answers;
  answers = 0;
  const Pipe pipe;
  const TemporaryDirectory directory;
  const File other = File::open(directory / "other", OpenMode::kCreate);
  other.resize(4096);
  const AlignedMemory memory(1 << 20);
  std::byte* const data = memory.data();
  {
    const std::unique_ptr<BlockIo> io =
        GetParam() == IoBackend::kUring ? make_uring_io(impatient()) : make_threads(answers);
    const FileIndex stuck = io->add_file({pipe.ends[0], "a pipe", true, 0});
    const FileIndex good = io->add_file({other.descriptor(), other.path(), false, 1});
    Asked first(*io, {IoKind::kRead, stuck, 0, data, 4096, nullptr, 0});
    Asked second(*io, {IoKind::kRead, stuck, 4096, data + 4096, 8192, nullptr, 0});
    Asked third(*io, {IoKind::kRead, stuck, 12288, data + 12288, 4096, nullptr, 0});  // beyond the depth
    Asked fine(*io, {IoKind::kRead, good, 0, data + 20480, 4096, nullptr, 0});
    EXPECT_EQ(fine.outcome(), "");
    EXPECT_THAT(first.outcome(), HasSubstr("cannot read 4096 bytes at offset 0 of a pipe: no answer after "
                                           "0.2 seconds. The drive"));
    EXPECT_THAT(second.outcome(), HasSubstr("cannot read 8192 bytes at offset 4096 of a pipe: no answer"));
    EXPECT_THAT(third.outcome(), HasSubstr("of a pipe: no answer after"));
    Asked late(*io, {IoKind::kSync, good, 0, nullptr, 0, nullptr, 0});
    EXPECT_THAT(late.outcome(), HasSubstr("no answer after"));
  }  // does not wait for the pipe
  // The answers come after all: they find the memory, and nothing is called. (A pipe's reads in a ring end
  // with the thread that asked for them.)
  const std::string answer(4096, 'x');
  for (int expected = 1; expected <= 2; expected++) {
    EXPECT_EQ(::write(pipe.ends[1], answer.data(), answer.size()), 4096);
    while (GetParam() == IoBackend::kThreads && answers < expected)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  if (GetParam() == IoBackend::kThreads) {
    EXPECT_EQ(data[4095], std::byte{'x'});
    EXPECT_EQ(data[8191], std::byte{'x'});
  }
}

INSTANTIATE_TEST_SUITE_P(Backends, StuckRequest, ::testing::Values(IoBackend::kUring, IoBackend::kThreads),
                         [](const ::testing::TestParamInfo<IoBackend>& instance) {
                           return std::string(instance.param == IoBackend::kUring ? "Uring" : "Threads");
                         });

TEST(StuckRequestOfThreads, MayBeASync) {
  const TemporaryDirectory directory;
  const File file = File::open(directory / "data", OpenMode::kCreate);
  TransferCalls calls = system_transfer_calls();
  auto answer = std::make_shared<std::latch>(1);
  calls.sync = [answer](int) {
    answer->wait();
    return int64_t{0};
  };
  {
    const std::unique_ptr<BlockIo> io = make_thread_io(impatient(), calls, "scripted");
    const FileIndex index = io->add_file({file.descriptor(), file.path(), false, 0});
    Asked sync(*io, {IoKind::kSync, index, 0, nullptr, 0, nullptr, 0});
    EXPECT_THAT(sync.outcome(), HasSubstr("cannot sync " + file.path() + ": no answer after 0.2 seconds"));
  }
  answer->count_down();
}

TEST(StuckRequestOfThreads, KeepsItsMemoryMapped) {
  const Pipe pipe;
  const headrace::testing::ChildResult child = run_in_child([&]() -> std::string {
    std::byte* data = nullptr;
    std::string outcome;
    {
      const AlignedMemory memory(1 << 20);
      data = memory.data();
      static std::atomic<int> answers;
      const std::unique_ptr<BlockIo> io = make_threads(answers);
      Asked read(*io,
                 {IoKind::kRead, io->add_file({pipe.ends[0], "a pipe", true, 0}), 0, data, 4096, nullptr, 0});
      outcome = read.outcome();
    }
    *data = std::byte{1};  // a signal where it is not mapped
    return outcome;
  });
  EXPECT_EQ(child.exit_status, 0) << child.signal;
  EXPECT_THAT(child.output, HasSubstr("no answer"));
}

// ---- the queue's count of ticks
// ---------------------------------------------------------------------------------

class NoListener final : public IoListener {
  void io_done(uint64_t, std::exception_ptr) override {}
};

TEST(TransferQueueTicks, GiveUpWhatWasInFlightAllTheTimeAndNothingElse) {
  NoListener listener;
  TransferQueue queue(impatient());
  const FileIndex file = queue.add_file({});
  const auto push = [&](uint64_t tag) {
    const IoRequest request{IoKind::kWrite, file, tag * 4096, nullptr, 4096, &listener, tag};
    queue.push({&request, 1});
  };
  push(1);
  Transfer* const stuck = queue.next();
  for (uint32_t i = 0; i < TransferQueue::kStuckTicks; i++) EXPECT_TRUE(queue.tick().empty());
  push(2);
  Transfer* const young = queue.next();
  push(3);  // waits for its turn
  const std::vector<IoCompletion> over = queue.tick();
  ASSERT_EQ(over.size(), 2u);
  EXPECT_EQ(over[0].tag, 1u);
  EXPECT_EQ(over[1].tag, 3u);
  EXPECT_TRUE(queue.gave_up());
  const std::optional<IoCompletion> done = queue.finish(*young, nullptr);
  ASSERT_TRUE(done);
  EXPECT_FALSE(done->error) << "it was answered in time";
  EXPECT_FALSE(queue.finish(*stuck, nullptr)) << "too late";
  EXPECT_TRUE(queue.empty());
  push(4);
  EXPECT_EQ(queue.next(), nullptr);
  EXPECT_EQ(queue.fail_waiting().size(), 1u);
}

TEST(TransferQueueTicks, WaitForTheOtherPartsOfARequest) {
  NoListener listener;
  IoOptions options = impatient();
  options.transfer_bytes = 4096;
  TransferQueue queue(options);
  const FileIndex file = queue.add_file({});
  std::vector<std::byte> memory(3 * 4096);
  const IoRequest request{IoKind::kWrite, file, 0, memory.data(), 3 * 4096, &listener, 1};
  queue.push({&request, 1});
  Transfer* const first = queue.next();
  for (uint32_t i = 0; i < 4; i++) queue.tick();
  Transfer* const second = queue.next();
  for (uint32_t i = 0; i < 5; i++) EXPECT_TRUE(queue.tick().empty());
  EXPECT_TRUE(first->given_up);
  const std::optional<IoCompletion> done = queue.finish(*second, nullptr);
  ASSERT_TRUE(done) << "its third part is not begun";
  EXPECT_TRUE(done->error);
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace headrace::storage

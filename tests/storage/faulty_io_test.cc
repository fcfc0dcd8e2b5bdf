// The stand-ins must do what they say, or the tests that rely on them prove nothing.
#include "tests/support/faulty_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <vector>

#include "tests/support/memory_io.h"

namespace headrace::testing {
namespace {

using storage::BlockIo;
using storage::FileIndex;
using storage::IoError;
using storage::IoKind;
using storage::IoListener;
using storage::IoRequest;
using ::testing::ElementsAre;

class FaultyIoTest : public ::testing::Test {
 protected:
  static IoRequest request(IoKind kind, FileIndex file, uint64_t offset, std::vector<std::byte>& data) {
    return {kind, file, offset, data.data(), data.size(), nullptr, 0};
  }
  static void transfer(BlockIo& io, IoRequest request) { storage::transfer_and_wait(io, {&request, 1}); }

  static std::vector<std::byte> bytes(size_t count, int value) {
    return std::vector<std::byte>(count, static_cast<std::byte>(value));
  }

  MemoryFiles files_;
  std::unique_ptr<BlockIo> memory_ = files_.make_io({});
  std::vector<std::byte>& content_ = files_.content("a");
};

TEST_F(FaultyIoTest, PassesThroughWhatNoFaultNames) {
  FaultyIo io(*memory_);
  const FileIndex file = io.add_file({-1, "a", true, 0});
  std::vector<std::byte> ones = bytes(3 << 20, 1), back(3 << 20);
  transfer(io, request(IoKind::kWrite, file, 5, ones));
  transfer(io, request(IoKind::kRead, file, 5, back));
  EXPECT_EQ(back, ones);
  EXPECT_EQ(content_.size(), (3u << 20) + 5);
  EXPECT_EQ(io.submitted(IoKind::kWrite), 1u);
  EXPECT_EQ(io.faults_met(), 0u);
}

TEST_F(FaultyIoTest, MemoryKeepsItsContentForTheNextBlockIo) {
  std::vector<std::byte> ones = bytes(10, 1), back(10);
  transfer(*memory_, request(IoKind::kWrite, memory_->add_file({-1, "b", true, 0}), 0, ones));
  memory_ = files_.make_io({});
  const FileIndex again = memory_->add_file({-1, "b", true, 0});
  transfer(*memory_, request(IoKind::kRead, again, 0, back));
  EXPECT_EQ(back, ones);
  EXPECT_THROW(transfer(*memory_, request(IoKind::kRead, again, 1, back)), IoError) << "past the end";
}

TEST_F(FaultyIoTest, FailsTheRequestThatTheScriptNames) {
  FaultyIo io(*memory_, {{.kind = IoKind::kWrite, .number = 1, .error_number = ENOSPC},
                         {.kind = IoKind::kSync, .number = 0, .error_number = EIO}});
  const FileIndex file = io.add_file({-1, "a", true, 0});
  std::vector<std::byte> ones = bytes(10, 1), twos = bytes(10, 2);
  transfer(io, request(IoKind::kWrite, file, 0, ones));
  try {
    transfer(io, request(IoKind::kWrite, file, 0, twos));
    FAIL() << "the fault did not strike";
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), ENOSPC);
  }
  EXPECT_EQ(content_, ones);
  EXPECT_THROW(transfer(io, {IoKind::kSync, file, 0, nullptr, 0, nullptr, 0}), IoError);
  EXPECT_NO_THROW(transfer(io, {IoKind::kSync, file, 0, nullptr, 0, nullptr, 0}));
  EXPECT_EQ(io.faults_met(), 2u);
}

TEST_F(FaultyIoTest, FlipsABitOfWhatAReadReturnsButNotOnDisk) {
  FaultyIo io(*memory_, {{.kind = IoKind::kRead, .action = FaultAction::kFlipBit, .bit = 8 * 3 + 5}});
  const FileIndex file = io.add_file({-1, "a", true, 0});
  std::vector<std::byte> zeros = bytes(10, 0), back(10);
  transfer(io, request(IoKind::kWrite, file, 0, zeros));
  transfer(io, request(IoKind::kRead, file, 0, back));
  std::vector<std::byte> flipped = zeros;
  flipped[3] = std::byte{1 << 5};
  EXPECT_EQ(back, flipped);
  transfer(io, request(IoKind::kRead, file, 0, back));
  EXPECT_EQ(back, zeros);
}

TEST_F(FaultyIoTest, LosesTearsAndMisplacesWritesSilently) {
  FaultyIo io(
      *memory_,
      {{.kind = IoKind::kWrite, .number = 1, .action = FaultAction::kLoseWrite},
       {.kind = IoKind::kWrite, .number = 2, .action = FaultAction::kTearWrite, .bytes = 2},
       {.kind = IoKind::kWrite, .number = 3, .action = FaultAction::kMisplaceWrite, .displacement = -4}});
  const FileIndex file = io.add_file({-1, "a", true, 0});
  std::vector<std::byte> zeros = bytes(12, 0), some = bytes(4, 1);
  transfer(io, request(IoKind::kWrite, file, 0, zeros));
  transfer(io, request(IoKind::kWrite, file, 0, some));
  EXPECT_EQ(content_, zeros) << "not lost";
  transfer(io, request(IoKind::kWrite, file, 8, some));
  std::vector<std::byte> expected = zeros;
  expected[8] = expected[9] = std::byte{1};
  EXPECT_EQ(content_, expected) << "not torn";
  transfer(io, request(IoKind::kWrite, file, 4, some));
  std::fill(expected.begin(), expected.begin() + 4, std::byte{1});
  EXPECT_EQ(content_, expected) << "not misplaced";
}

class Order final : public IoListener {
 public:
  void io_done(uint64_t tag, std::exception_ptr) override {
    const std::lock_guard lock(mutex_);
    tags_.push_back(tag);
    changed_.notify_one();
  }
  std::vector<uint64_t> wait_for(size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return tags_.size() >= count; });
    return tags_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<uint64_t> tags_;
};

TEST_F(FaultyIoTest, HoldsADelayedCompletionBackBehindLaterOnes) {
  storage::IoOptions options;
  options.threads = 1;
  const std::unique_ptr<BlockIo> in_order = files_.make_io(options);
  FaultyIo io(*in_order, {{.kind = IoKind::kWrite, .action = FaultAction::kDelay, .completions = 2}});
  const FileIndex file = io.add_file({-1, "a", true, 0});
  std::vector<std::byte> some = bytes(4, 1);
  Order order;
  std::vector<IoRequest> requests(4, request(IoKind::kWrite, file, 0, some));
  for (uint64_t i = 0; i < 4; ++i) {
    requests[i].listener = &order;
    requests[i].tag = i;
  }
  io.submit(requests);
  EXPECT_THAT(order.wait_for(4), ElementsAre(1, 2, 0, 3));
}

TEST_F(FaultyIoTest, DeliversADelayedCompletionWhenNothingElseIsOutstanding) {
  FaultyIo io(*memory_, {{.kind = IoKind::kWrite, .action = FaultAction::kDelay, .completions = 1000}});
  const FileIndex file = io.add_file({-1, "a", true, 0});
  std::vector<std::byte> some = bytes(4, 1);
  transfer(io, request(IoKind::kWrite, file, 0, some));  // returns
  EXPECT_EQ(content_, some);
}

TEST_F(FaultyIoTest, ShufflesCompletionsAndDeliversEachOnce) {
  FaultyIo io(*memory_, {}, 42);
  const FileIndex file = io.add_file({-1, "a", true, 0});
  std::vector<std::byte> some = bytes(4, 1);
  Order order;
  std::vector<IoRequest> requests(200, request(IoKind::kWrite, file, 0, some));
  for (uint64_t i = 0; i < requests.size(); ++i) {
    requests[i].listener = &order;
    requests[i].tag = i;
  }
  io.submit(requests);
  std::vector<uint64_t> tags = order.wait_for(200);
  std::sort(tags.begin(), tags.end());
  for (uint64_t i = 0; i < 200; ++i) ASSERT_EQ(tags[i], i);
}

}  // namespace
}  // namespace headrace::testing

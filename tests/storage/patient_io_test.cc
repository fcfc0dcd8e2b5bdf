#include "storage/patient_io.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "storage/aligned_memory.h"
#include "tests/support/expect_error.h"
#include "tests/support/faulty_io.h"
#include "tests/support/memory_io.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;

// Lets as many waits pass as it is told, then gives up.
class CountingWaiter final : public SpaceWaiter {
 public:
  explicit CountingWaiter(int patience) : patience_(patience) {}
  void wait(const SpaceError& error) override {
    needed_bytes = error.needed_bytes();
    directory = error.directory();
    if (++waits > patience_) throw Error(ErrorKind::kFailed, "gave up");
  }
  void over() override { overs++; }
  void started() override {}

  std::atomic<int> waits{0}, overs{0};
  std::atomic<uint64_t> needed_bytes{0};
  std::string directory;

 private:
  const int patience_;
};

class PatientIoTest : public ::testing::Test {
 protected:
  void open(std::vector<Fault> faults, int patience) {
    faulty_.emplace(*memory_, std::move(faults));
    waiter_.emplace(patience);
    io_.emplace(*faulty_, *waiter_);
    file_ = io_->add_file({.descriptor = -1, .path = "/disk/file", .direct = false, .drive = 0});
  }
  void write(uint32_t blocks) {
    std::vector<IoRequest> requests;
    for (uint32_t i = 0; i < blocks; i++) {
      std::byte* data = data_.data() + i * kBlock;
      std::memset(data, int(i) + 1, kBlock);
      requests.push_back(
          {.kind = IoKind::kWrite, .file = file_, .offset = i * kBlock, .data = data, .bytes = kBlock});
    }
    transfer_and_wait(*io_, requests);
  }
  void expect_written(uint32_t blocks) {
    const std::vector<std::byte>& content = files_.content("/disk/file");
    ASSERT_GE(content.size(), blocks * kBlock);
    EXPECT_EQ(std::memcmp(content.data(), data_.data(), blocks * kBlock), 0);
  }

  static constexpr uint64_t kBlock = 4096;
  MemoryFiles files_;
  std::unique_ptr<BlockIo> memory_ = files_.make_io({.threads = 2});
  std::optional<FaultyIo> faulty_;
  std::optional<CountingWaiter> waiter_;
  std::optional<PatientIo> io_;
  FileIndex file_ = 0;
  AlignedMemory data_{64 * kBlock};
};

Fault full(uint64_t number, int error_number = ENOSPC) {
  return {.kind = IoKind::kWrite, .number = number, .error_number = error_number};
}

TEST_F(PatientIoTest, WritesAgainWhatMetAFullDisk) {
  open({full(1), full(5, EDQUOT), full(40), full(41)}, 100);
  write(40);
  EXPECT_EQ(faulty_->faults_met(), 4u) << "the second try met a full disk, too";
  EXPECT_GE(waiter_->waits, 2);
  EXPECT_GE(waiter_->overs, 1);
  EXPECT_EQ(waiter_->directory, "/disk");
  EXPECT_EQ(waiter_->needed_bytes % kBlock, 0u);
  EXPECT_GT(waiter_->needed_bytes, 0u);
  expect_written(40);
}

TEST_F(PatientIoTest, HandsOutWhyTheWaitWasGivenUp) {
  open({full(3), full(10)}, 1);
  expect_error(ErrorKind::kFailed, "gave up", [&] { write(10); });
  EXPECT_EQ(waiter_->overs, 0);
}

TEST_F(PatientIoTest, LeavesOtherErrorsAlone) {
  open({full(3, EIO)}, 100);
  expect_error(ErrorKind::kFailed, "Input/output error", [&] { write(10); });
  EXPECT_EQ(waiter_->waits, 0);
}

TEST_F(PatientIoTest, LeavesReadsAndSyncsAlone) {
  open({{.kind = IoKind::kSync, .number = 0, .error_number = ENOSPC}}, 100);
  write(4);
  IoRequest sync{.kind = IoKind::kSync, .file = file_};
  expect_error(ErrorKind::kFailed, "No space left", [&] { transfer_and_wait(*io_, {&sync, 1}); });
  EXPECT_EQ(waiter_->waits, 0) << "a failed sync is never repeated";
}

}  // namespace
}  // namespace headrace

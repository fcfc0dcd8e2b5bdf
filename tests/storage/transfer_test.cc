// What follows from a system call's result, without any system call.
#include "storage/transfer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

namespace headrace::storage {
namespace {

using ::testing::HasSubstr;

const IoFile kBuffered{3, "/run/shard", false, 0};
const IoFile kDirect{3, "/run/shard", true, 0};

Transfer make(TransferStep step, const IoFile& file, uint64_t bytes = 65536, uint64_t offset = 8192) {
  Transfer transfer;
  transfer.step = step;
  transfer.reads = step == TransferStep::kRead;
  transfer.file = &file;
  transfer.offset = offset;
  transfer.bytes = bytes;
  return transfer;
}

struct Failure {
  ErrorKind kind = ErrorKind::kUsage;
  int error_number = -1;
  std::string text, advice;
};

Failure failure_of(const TransferVerdict& verdict) {
  EXPECT_EQ(verdict.next, TransferNext::kDone);
  EXPECT_TRUE(verdict.error) << "the transfer did not fail";
  if (!verdict.error) return {};
  try {
    std::rethrow_exception(verdict.error);
  } catch (const IoError& error) {
    return {error.kind(), error.error_number(), error.what(), error.advice()};
  }
}

TEST(Transfer, IsDoneWhenAllBytesMoved) {
  Transfer transfer = make(TransferStep::kRead, kDirect);
  const TransferVerdict verdict = apply_result(transfer, 65536);
  EXPECT_EQ(verdict.next, TransferNext::kDone);
  EXPECT_FALSE(verdict.error);
}

TEST(Transfer, ContinuesAfterTheBytesThatMoved) {
  for (const TransferStep step : {TransferStep::kRead, TransferStep::kWrite}) {
    Transfer transfer = make(step, kBuffered);
    EXPECT_EQ(apply_result(transfer, 1).next, TransferNext::kAgain);
    EXPECT_EQ(transfer.step, step);
    EXPECT_EQ(transfer.next_offset(), 8193u);
    EXPECT_EQ(transfer.bytes_left(), 65535u);
    EXPECT_EQ(apply_result(transfer, 65534).next, TransferNext::kAgain);
    EXPECT_EQ(transfer.bytes_left(), 1u);
  }
}

TEST(Transfer, ContinuesADirectFileOnlyAtAnAlignedPlace) {
  Transfer transfer = make(TransferStep::kRead, kDirect);
  EXPECT_EQ(apply_result(transfer, 4096 + 512).next, TransferNext::kAgain);
  EXPECT_EQ(transfer.moved, 4096u);
}

TEST(Transfer, FailsAReadThatEndsEarlyAsCorrupt) {
  Transfer transfer = make(TransferStep::kRead, kBuffered);
  EXPECT_EQ(apply_result(transfer, 100).next, TransferNext::kAgain);
  const Failure failure = failure_of(apply_result(transfer, 0));
  EXPECT_EQ(failure.kind, ErrorKind::kCorrupt);
  EXPECT_EQ(failure.error_number, 0);
  EXPECT_EQ(failure.text, "cannot read 65536 bytes at offset 8192 of /run/shard: end of file at 8292");
}

TEST(Transfer, FailsADirectReadOfAFileThatEndsInsideAPage) {
  Transfer transfer = make(TransferStep::kRead, kDirect);
  EXPECT_EQ(apply_result(transfer, 4096 + 100).next, TransferNext::kAgain);
  TransferVerdict verdict;
  int calls = 0;
  for (verdict.next = TransferNext::kAgain; verdict.next == TransferNext::kAgain && calls < 100; ++calls)
    verdict = apply_result(transfer, 100);
  EXPECT_LE(calls, 3);
  EXPECT_THAT(failure_of(verdict).text, HasSubstr("end of file at 12388"));
}

TEST(Transfer, FailsAWriteThatNeverAdvances) {
  Transfer transfer = make(TransferStep::kWrite, kBuffered);
  TransferVerdict verdict;
  int calls = 0;
  for (verdict.next = TransferNext::kAgain; verdict.next == TransferNext::kAgain && calls < 100; ++calls)
    verdict = apply_result(transfer, 0);
  EXPECT_LE(calls, 3);
  EXPECT_EQ(failure_of(verdict).error_number, EIO);
}

TEST(Transfer, RepeatsWhatWasInterruptedOrBusy) {
  for (const TransferStep step : {TransferStep::kRead, TransferStep::kWrite, TransferStep::kFlush}) {
    Transfer transfer = make(step, kBuffered);
    EXPECT_EQ(apply_result(transfer, -EINTR).next, TransferNext::kAgain);
    EXPECT_EQ(apply_result(transfer, -EAGAIN).next, TransferNext::kAgainLater);
    EXPECT_EQ(apply_result(transfer, -EBUSY).next, TransferNext::kAgainLater);
    EXPECT_EQ(transfer.step, step);
    EXPECT_EQ(transfer.moved, 0u);
  }
}

TEST(Transfer, GivesUpOnASystemThatIsBusyForever) {
  Transfer transfer = make(TransferStep::kRead, kBuffered);
  TransferVerdict verdict{TransferNext::kAgainLater, nullptr};
  uint32_t calls = 0;
  for (; verdict.next == TransferNext::kAgainLater && calls <= kMaxRepeats; ++calls)
    verdict = apply_result(transfer, -EAGAIN);
  EXPECT_EQ(calls, kMaxRepeats);
  EXPECT_EQ(failure_of(verdict).error_number, EAGAIN);
}

TEST(Transfer, CountsRepeatsAnewAfterProgress) {
  Transfer transfer = make(TransferStep::kRead, kBuffered);
  for (uint32_t i = 0; i < kMaxRepeats - 1; ++i)
    ASSERT_EQ(apply_result(transfer, -EAGAIN).next, TransferNext::kAgainLater);
  ASSERT_EQ(apply_result(transfer, 1).next, TransferNext::kAgain);
  EXPECT_EQ(apply_result(transfer, -EAGAIN).next, TransferNext::kAgainLater);
}

TEST(Transfer, NamesFileOffsetLengthAndTheSystemsWords) {
  Transfer transfer = make(TransferStep::kWrite, kDirect);
  const Failure failure = failure_of(apply_result(transfer, -EIO));
  EXPECT_EQ(failure.kind, ErrorKind::kFailed);
  EXPECT_EQ(failure.error_number, EIO);
  EXPECT_EQ(failure.text, "cannot write 65536 bytes at offset 8192 of /run/shard: Input/output error");
}

TEST(Transfer, SaysWhatToDoAboutAFullDisk) {
  Transfer transfer = make(TransferStep::kWrite, kDirect);
  EXPECT_EQ(apply_result(transfer, 4096).next, TransferNext::kAgain);
  const Failure failure = failure_of(apply_result(transfer, -ENOSPC));
  EXPECT_EQ(failure.error_number, ENOSPC);
  EXPECT_THAT(failure.text, HasSubstr("No space left on device (after 4096 bytes)"));
  EXPECT_THAT(failure.advice, HasSubstr("Free space"));
}

TEST(Transfer, NeverRepeatsASync) {
  for (const int error_number : {EIO, EINTR, EAGAIN, EBUSY}) {
    Transfer transfer = make(TransferStep::kSync, kDirect, 0, 0);
    const Failure failure = failure_of(apply_result(transfer, -error_number));
    EXPECT_EQ(failure.error_number, error_number);
    EXPECT_THAT(failure.text, HasSubstr("cannot sync /run/shard: "));
  }
}

TEST(Transfer, FlushesAndDropsWhatItWroteThroughThePageCache) {
  Transfer transfer = make(TransferStep::kWrite, kBuffered);
  EXPECT_EQ(apply_result(transfer, 65536).next, TransferNext::kAgain);
  EXPECT_EQ(transfer.step, TransferStep::kFlush);
  EXPECT_EQ(apply_result(transfer, 0).next, TransferNext::kAgain);
  EXPECT_EQ(transfer.step, TransferStep::kDrop);
  const TransferVerdict verdict = apply_result(transfer, 0);
  EXPECT_EQ(verdict.next, TransferNext::kDone);
  EXPECT_FALSE(verdict.error);
}

TEST(Transfer, OnlyDropsWhatItReadThroughThePageCache) {
  Transfer transfer = make(TransferStep::kRead, kBuffered);
  EXPECT_EQ(apply_result(transfer, 65536).next, TransferNext::kAgain);
  EXPECT_EQ(transfer.step, TransferStep::kDrop);
  const TransferVerdict verdict =
      apply_result(transfer, -ESPIPE);  // advice that cannot be taken does no harm
  EXPECT_EQ(verdict.next, TransferNext::kDone);
  EXPECT_FALSE(verdict.error);
}

TEST(Transfer, FailsWhenItsFlushFails) {
  Transfer transfer = make(TransferStep::kWrite, kBuffered);
  EXPECT_EQ(apply_result(transfer, 65536).next, TransferNext::kAgain);
  const Failure failure = failure_of(apply_result(transfer, -EIO));
  EXPECT_EQ(failure.text, "cannot flush 65536 bytes at offset 8192 of /run/shard: Input/output error");
}

TEST(Transfer, NeverFlushesOrDropsAnEmptyRangeWhichWouldMeanTheWholeFile) {
  Transfer transfer = make(TransferStep::kWrite, kBuffered, 0);
  const TransferVerdict verdict = apply_result(transfer, 0);
  EXPECT_EQ(verdict.next, TransferNext::kDone);
  EXPECT_FALSE(verdict.error);
}

}  // namespace
}  // namespace headrace::storage

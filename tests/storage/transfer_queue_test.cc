// Order, cutting and depth, without any system call.
#include "storage/transfer_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace headrace::storage {
namespace {

using ::testing::ElementsAre;

class NoListener final : public IoListener {
  void io_done(uint64_t, std::exception_ptr) override {}
};

class TransferQueueTest : public ::testing::Test {
 protected:
  static IoOptions options(uint32_t depth) {
    IoOptions options;
    options.depth = depth;
    options.transfer_bytes = 4096;
    options.max_requests = 100;
    return options;
  }

  IoRequest request(IoKind kind, FileIndex file, uint64_t pages, uint64_t tag) {
    return {kind, file, tag * 1000000, memory_.data(), pages * 4096, &listener_, tag};
  }

  // Starts all that may start; "r3+1" is the transfer at page 1 of read 3, "s4" sync 4.
  static std::vector<std::string> start(TransferQueue& queue, std::vector<Transfer*>& in_flight) {
    std::vector<std::string> names;
    while (Transfer* const transfer = queue.next()) {
      in_flight.push_back(transfer);
      names.push_back(name(*transfer));
    }
    return names;
  }

  static std::string name(const Transfer& transfer) {
    if (transfer.step == TransferStep::kSync) return "s";
    const uint64_t tag = transfer.offset / 1000000, page = transfer.offset % 1000000 / 4096;
    return (transfer.reads ? "r" : "w") + std::to_string(tag) + "+" + std::to_string(page);
  }

  NoListener listener_;
  std::vector<std::byte> memory_ = std::vector<std::byte>(9 * 4096);  // of the largest request
};

TEST_F(TransferQueueTest, CutsALargeRequestIntoTransfers) {
  TransferQueue queue(options(8));
  const FileIndex file = queue.add_file({});
  IoRequest large = request(IoKind::kRead, file, 2, 1);
  large.bytes += 100;
  queue.push({&large, 1});
  std::vector<Transfer*> in_flight;
  EXPECT_THAT(start(queue, in_flight), ElementsAre("r1+0", "r1+1", "r1+2"));
  EXPECT_EQ(in_flight[1]->bytes, 4096u);
  EXPECT_EQ(in_flight[2]->bytes, 100u);
  EXPECT_FALSE(queue.finish(*in_flight[2], nullptr));
  EXPECT_FALSE(queue.finish(*in_flight[0], nullptr));
  EXPECT_FALSE(queue.empty());
  const std::optional<IoCompletion> completion = queue.finish(*in_flight[1], nullptr);
  ASSERT_TRUE(completion);
  EXPECT_EQ(completion->tag, 1u);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.counters().read_bytes, 2u * 4096 + 100);
  EXPECT_EQ(queue.counters().reads, 1u);
}

TEST_F(TransferQueueTest, CutsALargeRequestIntoEqualPieces) {
  IoOptions coarse = options(8);
  coarse.transfer_bytes = 4 * 4096;
  TransferQueue queue(coarse);
  const FileIndex file = queue.add_file({});
  const IoRequest large = request(IoKind::kRead, file, 9, 1);
  queue.push({&large, 1});
  std::vector<Transfer*> in_flight;
  EXPECT_THAT(start(queue, in_flight), ElementsAre("r1+0", "r1+3", "r1+6"));
  for (const Transfer* transfer : in_flight) EXPECT_EQ(transfer->bytes, 3u * 4096);
}

TEST_F(TransferQueueTest, LetsReadsAndWritesTakeTurnsEachInOrder) {
  TransferQueue queue(options(100));
  const FileIndex file = queue.add_file({});
  std::vector<IoRequest> requests;
  for (uint64_t tag = 0; tag < 4; ++tag) requests.push_back(request(IoKind::kRead, file, 1, tag));
  requests.push_back(request(IoKind::kWrite, file, 2, 4));
  requests.push_back(request(IoKind::kSync, file, 0, 5));
  queue.push(requests);
  std::vector<Transfer*> in_flight;
  EXPECT_THAT(start(queue, in_flight), ElementsAre("r0+0", "w4+0", "r1+0", "w4+1", "r2+0", "s", "r3+0"));
}

TEST_F(TransferQueueTest, KeepsNoMoreThanTheDepthInFlightOnADrive) {
  TransferQueue queue(options(2));
  const FileIndex first = queue.add_file({-1, "a", true, 7});
  const FileIndex same_drive = queue.add_file({-1, "b", true, 7});
  const FileIndex other_drive = queue.add_file({-1, "c", true, 9});
  const std::vector<IoRequest> requests = {request(IoKind::kRead, first, 1, 0),
                                           request(IoKind::kRead, same_drive, 2, 1),
                                           request(IoKind::kRead, other_drive, 3, 2)};
  queue.push(requests);
  std::vector<Transfer*> in_flight;
  EXPECT_THAT(start(queue, in_flight), ElementsAre("r0+0", "r2+0", "r1+0", "r2+1"));
  EXPECT_TRUE(queue.finish(*in_flight[0], nullptr));
  EXPECT_THAT(start(queue, in_flight), ElementsAre("r1+1"));
}

TEST_F(TransferQueueTest, GivesUpTheRestOfARequestAfterAnErrorAndReportsItOnce) {
  TransferQueue queue(options(2));
  const FileIndex file = queue.add_file({});
  const std::vector<IoRequest> requests = {request(IoKind::kWrite, file, 9, 0),
                                           request(IoKind::kWrite, file, 1, 1)};
  queue.push(requests);
  std::vector<Transfer*> in_flight;
  EXPECT_THAT(start(queue, in_flight), ElementsAre("w0+0", "w0+1"));
  EXPECT_FALSE(queue.finish(*in_flight[0], std::make_exception_ptr(IoError(ErrorKind::kFailed, 5, "first"))));
  EXPECT_THAT(start(queue, in_flight), ElementsAre("w1+0"));
  const std::optional<IoCompletion> completion =
      queue.finish(*in_flight[1], std::make_exception_ptr(IoError(ErrorKind::kFailed, 6, "second")));
  ASSERT_TRUE(completion);
  ASSERT_TRUE(completion->error);
  try {
    std::rethrow_exception(completion->error);
  } catch (const IoError& error) {
    EXPECT_STREQ(error.what(), "first");
  }
  EXPECT_TRUE(queue.finish(*in_flight[2], nullptr));
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.counters().writes, 1u);
  EXPECT_EQ(queue.counters().written_bytes, 4096u);
}

TEST_F(TransferQueueTest, UsesThePlacesOfFinishedRequestsAgain) {
  TransferQueue queue(options(1));
  const FileIndex file = queue.add_file({});
  for (uint64_t round = 0; round < 1000; ++round) {
    const std::vector<IoRequest> requests = {request(IoKind::kRead, file, 1, round),
                                             request(IoKind::kWrite, file, 1, round + 1)};
    queue.push(requests);
    for (uint64_t i = 0; i < 2; ++i) {
      Transfer* const transfer = queue.next();
      ASSERT_NE(transfer, nullptr);
      EXPECT_EQ(queue.next(), nullptr);
      ASSERT_TRUE(queue.finish(*transfer, nullptr));
    }
    ASSERT_TRUE(queue.empty());
  }
}

TEST_F(TransferQueueTest, RefusesOptionsThatMakeNoSense) {
  for (const auto& spoil : std::vector<void (*)(IoOptions&)>{
           [](IoOptions& options) { options.depth = 0; }, [](IoOptions& options) { options.depth = 1 << 20; },
           [](IoOptions& options) { options.transfer_bytes = 0; },
           [](IoOptions& options) { options.transfer_bytes = 5000; },
           [](IoOptions& options) { options.transfer_bytes = uint64_t{1} << 31; },
           [](IoOptions& options) { options.max_requests = 0; },
           [](IoOptions& options) { options.threads = 0; }}) {
    IoOptions spoiled;
    spoil(spoiled);
    EXPECT_THROW(TransferQueue{spoiled}, Error);
  }
}

using TransferQueueDeathTest = TransferQueueTest;

TEST_F(TransferQueueDeathTest, AbortsOnMoreRequestsThanItsLimit) {
  TransferQueue queue(options(1));
  const FileIndex file = queue.add_file({});
  const std::vector<IoRequest> requests(100, request(IoKind::kRead, file, 1, 0));
  queue.push(requests);
  EXPECT_DEATH(queue.push({requests.data(), 1}), "max_requests");
}

}  // namespace
}  // namespace headrace::storage

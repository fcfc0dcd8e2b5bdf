#include "storage/store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>

#include "storage/digest.h"
#include "storage/file.h"
#include "storage/verify.h"
#include "tests/support/expect_error.h"
#include "tests/support/faulty_io.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;

class StoreTest : public ::testing::Test {
 protected:
  std::unique_ptr<Store> open(const std::vector<std::string>& shard_dirs = {}) {
    return Store::open(run_, shard_dirs, *io_);
  }
  std::string subdirectory(const std::string& name) {
    std::filesystem::create_directory(directory_ / name);
    return directory_ / name;
  }
  // The offset in its shard's file of what is read of a plane.
  static IoRequest place_of(const Store& store, BlockId block, uint32_t plane) {
    return store.read_request(block, {plane, plane + 1}, nullptr);
  }
  static void flip_bit(const std::string& path, uint64_t offset) {
    const File file = File::open(path, OpenMode::kReadWrite);
    std::byte byte;
    file.pread_all({&byte, 1}, offset);
    byte ^= std::byte{0x10};
    file.pwrite_all({&byte, 1}, offset);
  }

  TemporaryDirectory directory_;
  std::string run_ = directory_ / "run";
  std::unique_ptr<BlockIo> io_ = make_block_io({});
};

TEST_F(StoreTest, OpensWhatItCreated) {
  EXPECT_FALSE(Store::exists(run_));
  create_small(small_config(run_), *io_);
  EXPECT_TRUE(Store::exists(run_));
  const auto store = open();
  EXPECT_EQ(store->step(), 0u);
  EXPECT_EQ(store->model_json(), R"({"model":"small"})");
  EXPECT_EQ(store->cursor_json(), R"({"at":0})");
  EXPECT_EQ(first_difference(*store, *io_, 0), "");
  EXPECT_EQ(read_file(run_ + "/metrics.jsonl"), "");
  const Layout expected = small_layout();
  ASSERT_EQ(store->layout().blocks().size(), expected.blocks().size());
  EXPECT_EQ(store->layout().tensor(3).parts[1].name, "a.weight");
  EXPECT_EQ(store->layout().tensor(3).parts[1].shape, expected.tensor(3).parts[1].shape);
}

TEST_F(StoreTest, AStepCommittedIsThereAfterOpening) {
  create_small(small_config(run_), *io_);
  auto store = open();
  for (uint64_t step = 1; step <= 5; step++) {
    write_and_commit(*store, *io_, step);
    EXPECT_EQ(first_difference(*store, *io_, step), "");
  }
  store.reset();
  store = open();
  EXPECT_EQ(store->step(), 5u);
  EXPECT_EQ(store->cursor_json(), R"({"at":5})");
  EXPECT_EQ(first_difference(*store, *io_, 5), "");
  EXPECT_EQ(read_file(run_ + "/metrics.jsonl"), metrics_lines(1, 5));
}

TEST_F(StoreTest, AStepNotCommittedNeverHappened) {
  create_small(small_config(run_), *io_);
  auto store = open();
  write_and_commit(*store, *io_, 1);
  const std::string before = digest(*store, *io_);
  write_step(*store, *io_, 2);
  EXPECT_EQ(first_difference(*store, *io_, 2), "");
  store.reset();
  store = open();
  EXPECT_EQ(store->step(), 1u);
  EXPECT_EQ(first_difference(*store, *io_, 1), "");
  EXPECT_EQ(digest(*store, *io_), before);
}

TEST_F(StoreTest, AnAbandonedStepIsForgottenAndCanBeDoneAgain) {
  create_small(small_config(run_), *io_);
  const auto store = open();
  write_and_commit(*store, *io_, 1);
  write_step(*store, *io_, 7);
  store->abandon_step();
  EXPECT_EQ(first_difference(*store, *io_, 1), "");
  write_and_commit(*store, *io_, 2);
  EXPECT_EQ(first_difference(*store, *io_, 2), "");
}

TEST_F(StoreTest, EachStepGoesToTheOtherSlot) {
  create_small(small_config(run_), *io_);
  const auto store = open();
  const BlockId block = store->layout().first_block(1);
  const uint64_t at_0 = place_of(*store, block, 0).offset;
  write_and_commit(*store, *io_, 1);
  const uint64_t at_1 = place_of(*store, block, 0).offset;
  write_and_commit(*store, *io_, 2);
  EXPECT_NE(at_0, at_1);
  EXPECT_EQ(place_of(*store, block, 0).offset, at_0);
}

TEST_F(StoreTest, WritesOfSeveralStepsMayCommitTogether) {
  create_small(small_config(run_), *io_);
  auto store = open();
  write_step(*store, *io_, 1);
  write_step(*store, *io_, 2);
  write_step(*store, *io_, 3);
  store->commit({3, "{}", {"one", "two", "three"}});
  EXPECT_EQ(first_difference(*store, *io_, 3), "");
  store.reset();
  store = open();
  EXPECT_EQ(store->step(), 3u);
  EXPECT_EQ(first_difference(*store, *io_, 3), "");
  EXPECT_EQ(read_file(run_ + "/metrics.jsonl"), "one\ntwo\nthree\n");
}

TEST_F(StoreTest, AFlippedBitIsFoundWhereItIs) {
  create_small(small_config(run_), *io_);
  auto store = open();
  const BlockId block = store->layout().first_block(1) + 3;
  const uint64_t offset = place_of(*store, block, 1).offset;
  const std::string shard = store->shard_paths()[0] + "/data.mdb";
  store.reset();
  flip_bit(shard, offset + 700);
  store = open();
  expect_error(ErrorKind::kCorrupt, "offset " + std::to_string(offset), [&] { verify_all(*store, *io_); });
  expect_error(ErrorKind::kCorrupt, "tensor 'matrix', plane 'weight.low', block " + std::to_string(block),
               [&] { digest(*store, *io_); });
}

TEST_F(StoreTest, ALostWriteIsFoundThoughItsSlotHoldsWholeContent) {
  create_small(small_config(run_), *io_);
  const auto store = open();
  write_and_commit(*store, *io_, 1);
  write_and_commit(*store, *io_, 2);
  FaultyIo faulty(*io_, {{IoKind::kWrite, 4, FaultAction::kLoseWrite}});
  write_step(*store, faulty, 3);
  store->commit(commit_of(3));
  expect_error(ErrorKind::kCorrupt, "are not what was written", [&] { verify_all(*store, *io_); });
}

TEST_F(StoreTest, SwappedBlocksAreFound) {
  create_small(small_config(run_), *io_);
  const auto store = open();
  const BlockId block = store->layout().first_block(1);
  const IoRequest a = place_of(*store, block, 0), b = place_of(*store, block + 1, 0);
  const File file = File::open(store->shard_paths()[0] + "/data.mdb", OpenMode::kReadWrite);
  std::vector<std::byte> first(a.bytes), second(b.bytes);
  file.pread_all(first, a.offset);
  file.pread_all(second, b.offset);
  file.pwrite_all(first, b.offset);
  file.pwrite_all(second, a.offset);
  expect_error(ErrorKind::kCorrupt, "block " + std::to_string(block), [&] { verify_all(*store, *io_); });
}

TEST_F(StoreTest, AFailedSyncPoisons) {
  create_small(small_config(run_), *io_);
  FaultyIo faulty(*io_, {{IoKind::kSync, 0, FaultAction::kFail}});
  {
    const auto store = Store::open(run_, {}, faulty);
    write_step(*store, faulty, 1);
    EXPECT_THROW(store->commit(commit_of(1)), Error);
    expect_error(ErrorKind::kFailed, "an earlier commit failed", [&] { store->commit(commit_of(1)); });
  }
  const auto store = open();
  EXPECT_EQ(store->step(), 0u);
  EXPECT_EQ(first_difference(*store, *io_, 0), "");
}

TEST_F(StoreTest, ASecondOpenerIsRefused) {
  create_small(small_config(run_), *io_);
  const auto store = open();
  expect_error(ErrorKind::kRefused, "another headrace process is using " + run_, [&] { open(); });
}

TEST_F(StoreTest, TheDigestDependsOnContentAlone) {
  create_small(small_config(run_), *io_);
  const auto store = open();
  const std::string other = directory_ / "other";
  create_small(small_config(other, {subdirectory("a"), subdirectory("b"), subdirectory("c")}, 256), *io_);
  const auto striped = Store::open(other, {}, *io_);
  ASSERT_EQ(striped->shard_paths().size(), 3u);
  EXPECT_EQ(digest(*store, *io_), digest(*striped, *io_));
  const std::string at_0 = digest(*store, *io_);
  write_and_commit(*store, *io_, 1);
  write_and_commit(*store, *io_, 2);
  // The other comes to step 2 through the other slot.
  write_step(*striped, *io_, 2);
  striped->commit(commit_of(2));
  EXPECT_NE(digest(*store, *io_), at_0);
  EXPECT_EQ(digest(*store, *io_), digest(*striped, *io_));
}

TEST_F(StoreTest, MetricsAreCompletedToTheCommittedLines) {
  create_small(small_config(run_), *io_);
  {
    const auto store = open();
    for (uint64_t step = 1; step <= 3; step++) write_and_commit(*store, *io_, step);
  }
  const std::string path = run_ + "/metrics.jsonl", all = metrics_lines(1, 3);
  const std::string torn[] = {metrics_lines(1, 2), metrics_lines(1, 2) + "metr", all + "metrics of step 4",
                              metrics_lines(1, 2) + std::string(20, '\0')};
  for (const std::string& text : torn) {
    write_file(path, text);
    open();
    EXPECT_EQ(read_file(path), all);
  }
  write_file(path, metrics_lines(1, 1));
  expect_error(ErrorKind::kCorrupt, "metrics.jsonl", [&] { open(); });
}

}  // namespace
}  // namespace headrace

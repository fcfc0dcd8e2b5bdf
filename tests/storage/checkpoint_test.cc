// Checkpoints of stopped runs: what is saved comes back, into any blocks and shards, and appears whole or not
// at all.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "storage/aligned_memory.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_reader.h"
#include "storage/checkpoint_save.h"
#include "storage/digest.h"
#include "storage/error.h"
#include "tests/support/checkpoint_content.h"
#include "tests/support/child_process.h"
#include "tests/support/expect_error.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using namespace storage;
using namespace testing;

class CheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto io = make_block_io({});
    create_small(small_config(run_), *io);
    train_to(3);
  }
  void train_to(uint64_t step) {
    const auto io = make_block_io({});
    const auto store = Store::open(run_, {}, *io);
    while (store->step() < step) write_and_commit(*store, *io, store->step() + 1);
  }
  static std::string digest_of(const std::string& run) {
    const auto io = make_block_io({});
    return digest(*Store::open(run, {}, *io), *io);
  }
  static std::string difference(const std::string& run, uint64_t step) {
    const auto io = make_block_io({});
    const auto store = Store::open(run, {}, *io);
    EXPECT_EQ(store->step(), step);
    return first_difference(*store, *io, step);
  }
  static std::string bytes_of(const std::string& checkpoint) {
    std::string all;
    std::set<std::string> names;
    for (const auto& entry : fs::directory_iterator(checkpoint)) names.insert(entry.path());
    for (const std::string& name : names) all += read_file(name);
    return all;
  }

  TemporaryDirectory directory_;
  std::string run_ = directory_ / "run";
  std::string saved_ = checkpoint_directory(run_, 3, false);
};

TEST_F(CheckpointTest, ComesBackIntoOtherBlocksAndShards) {
  save_checkpoint(run_, saved_);
  fs::create_directory(directory_ / "a");
  fs::create_directory(directory_ / "b");
  restore_checkpoint(saved_, directory_ / "same");
  restore_checkpoint(saved_, directory_ / "other", {directory_ / "a", directory_ / "b"}, 7);
  for (const char* name : {"same", "other"}) {
    EXPECT_EQ(difference(directory_ / name, 3), "") << name;
    EXPECT_EQ(digest_of(directory_ / name), digest_of(run_)) << name;
  }
}

TEST_F(CheckpointTest, ARestoredRunGoesOn) {
  save_checkpoint(run_, saved_);
  restore_checkpoint(saved_, directory_ / "other", {}, 50);
  const auto io = make_block_io({});
  {
    const auto store = Store::open(directory_ / "other", {}, *io);
    EXPECT_EQ(store->cursor_json(), R"({"at":3})");
    write_and_commit(*store, *io, 4);
  }
  train_to(4);
  EXPECT_EQ(digest_of(directory_ / "other"), digest_of(run_));
}

TEST_F(CheckpointTest, WeightsAloneLeaveTheOptimizerAtZero) {
  const CheckpointStats all = save_checkpoint(run_, saved_);
  const std::string weights = checkpoint_directory(run_, 3, true);
  const CheckpointStats some = save_checkpoint(run_, weights, true);
  EXPECT_LT(some.content_bytes * 5, all.content_bytes * 2);
  for (const bool of_all : {false, true}) {
    const std::string run = directory_ / (of_all ? "a" : "b");
    restore_checkpoint(of_all ? saved_ : weights, run, {}, 32, of_all);
    const auto io = make_block_io({});
    const auto store = Store::open(run, {}, *io);
    for (const BlockLayout& block : store->layout().blocks()) {
      std::vector<std::byte> expected(block.payload_bytes);
      fill_payload(store->layout(), block, 3, expected);
      if (block.planes.size() > 2)
        std::fill(expected.begin() + static_cast<ptrdiff_t>(block.planes[2].offset), expected.end(),
                  std::byte{0});
      const AlignedMemory memory(block.payload_bytes);
      const PlaneRange planes{0, static_cast<uint32_t>(block.planes.size())};
      IoRequest request = store->read_request(block.id, planes, memory.data());
      transfer_and_wait(*io, {&request, 1});
      EXPECT_EQ(std::memcmp(memory.data(), expected.data(), expected.size()), 0) << block.id;
    }
  }
}

TEST_F(CheckpointTest, UnchangedBlocksAreLinksIntoTheOneBefore) {
  save_checkpoint(run_, saved_);
  train_to(5);
  const std::string later = checkpoint_directory(run_, 5, false);
  const CheckpointStats stats = save_checkpoint(run_, later);
  EXPECT_GT(stats.linked_bytes, 100u * 64 * 2 * 9 / 10) << "the frozen tensor: random bytes";
  EXPECT_LT(stats.linked_bytes, stats.stored_bytes / 10);
  // Each stands alone.
  remove_checkpoint(saved_);
  restore_checkpoint(later, directory_ / "other");
  EXPECT_EQ(difference(directory_ / "other", 5), "");
  // Of a step that is saved already nothing is written again.
  const CheckpointStats again = save_checkpoint(run_, directory_ / "again");
  EXPECT_EQ(again.linked_bytes, again.stored_bytes);
  restore_checkpoint(directory_ / "again", directory_ / "third");
  EXPECT_EQ(difference(directory_ / "third", 5), "");
}

TEST_F(CheckpointTest, PacksAreCopiedWhereTheyCannotBeLinked) {
  if (geteuid() != 0) GTEST_SKIP() << "needs to mount a file system: run as root";
  const std::string elsewhere = directory_ / "elsewhere";
  fs::create_directory(elsewhere);
  ASSERT_EQ(mount("none", elsewhere.c_str(), "tmpfs", 0, "size=64m"), 0);
  save_checkpoint(run_, saved_);
  const CheckpointStats stats = save_checkpoint(run_, elsewhere + "/copy");
  EXPECT_EQ(stats.linked_bytes, 0u);
  fs::remove_all(saved_);
  restore_checkpoint(elsewhere + "/copy", directory_ / "other");
  EXPECT_EQ(difference(directory_ / "other", 3), "");
  EXPECT_EQ(umount(elsewhere.c_str()), 0);
}

TEST_F(CheckpointTest, NothingIsOverwritten) {
  save_checkpoint(run_, saved_);
  const std::string before = bytes_of(saved_);
  expect_error(ErrorKind::kUsage, "is there already", [&] { save_checkpoint(run_, saved_); });
  EXPECT_EQ(bytes_of(saved_), before);
  expect_error(ErrorKind::kUsage, "already holds a run", [&] { restore_checkpoint(saved_, run_); });
  write_file(directory_ / "file", "mine");
  expect_error(ErrorKind::kUsage, "is there already", [&] { save_checkpoint(run_, directory_ / "file"); });
  EXPECT_EQ(read_file(directory_ / "file"), "mine");
  EXPECT_EQ(difference(run_, 3), "");
}

TEST_F(CheckpointTest, AFullDiskLeavesNothing) {
  if (geteuid() != 0) GTEST_SKIP() << "needs to mount a file system: run as root";
  const std::string small = directory_ / "small";
  fs::create_directory(small);
  ASSERT_EQ(mount("none", small.c_str(), "tmpfs", 0, "size=1m"), 0);
  try {
    save_checkpoint(run_, small + "/step");
    ADD_FAILURE() << "2 MB went onto 1 MiB";
  } catch (const IoError& error) {
    EXPECT_EQ(error.error_number(), ENOSPC) << error.what();
  }
  EXPECT_TRUE(fs::is_empty(small));
  EXPECT_EQ(umount(small.c_str()), 0);
}

TEST_F(CheckpointTest, AKillAtAnyStepLeavesAllOrNothing) {
  for (const char* moment : {"begun", "packs", "manifest", "published"}) {
    const ChildResult child = run_in_child([&]() -> std::string {
      save_checkpoint(run_, saved_, false, [&](const char* event) {
        if (std::strcmp(event, moment) == 0) kill(getpid(), SIGKILL);
      });
      return "saved";
    });
    EXPECT_EQ(child.signal, SIGKILL) << child.output;
    const bool published = std::strcmp(moment, "published") == 0;
    EXPECT_EQ(fs::exists(saved_), published) << moment;
    EXPECT_EQ(list_checkpoints(run_).size(), published ? 1u : 0u) << moment;
    EXPECT_EQ(fs::exists(unfinished_directory(saved_)), !published) << moment;
    remove_leftovers(run_);
    EXPECT_FALSE(fs::exists(unfinished_directory(saved_))) << moment;
  }
  restore_checkpoint(saved_, directory_ / "other");
  EXPECT_EQ(difference(directory_ / "other", 3), "");
}

TEST_F(CheckpointTest, TheNextOneReplacesWhatAKillLeft) {
  run_in_child([&]() -> std::string {
    save_checkpoint(run_, saved_, false, [&](const char*) { kill(getpid(), SIGKILL); });
    return "saved";
  });
  ASSERT_TRUE(fs::exists(unfinished_directory(saved_)));
  save_checkpoint(run_, saved_);
  restore_checkpoint(saved_, directory_ / "other");
  EXPECT_EQ(difference(directory_ / "other", 3), "");
}

TEST_F(CheckpointTest, OnlyAutomaticOnesAreThinnedOut) {
  const auto take = [&](uint64_t step, bool automatic) {
    train_to(step);
    const auto io = make_block_io({});
    const auto store = Store::open(run_, {}, *io);
    CheckpointWriter writer(store->layout(), {});
    CheckpointTarget target = target_of(*store, checkpoint_directory(run_, step, false));
    target.manifest.automatic = automatic;
    writer.begin(std::move(target));
    save_missing(writer, *store, *io, 1);
    writer.publish();
  };
  for (uint64_t step = 3; step <= 7; step++) take(step, step != 4);
  write_file(run_ + "/checkpoints/step-000003/mine", "stays");
  EXPECT_THROW(keep_newest(run_, 2), Error) << "a file that is no checkpoint's";
  fs::remove(run_ + "/checkpoints/step-000003.removed/mine");
  remove_leftovers(run_);
  keep_newest(run_, 2);
  std::vector<std::string> names;
  for (const std::string& path : list_checkpoints(run_)) names.push_back(fs::path(path).filename());
  EXPECT_EQ(names, (std::vector<std::string>{"step-000004", "step-000006", "step-000007"}));
}

TEST_F(CheckpointTest, APlaneIsCutIntoPieces) {
  const Layout layout({{"large",
                        3,
                        300000,
                        2,
                        2,
                        {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2", 4}},
                        {{"large", {3, 300000}, 0}}}});
  const std::string run = directory_ / "large";
  const auto io = make_block_io({});
  Store::create({run, {}, layout, "{}", "{}"}, *io, small_filler(layout), 1, nullptr);
  save_checkpoint(run, directory_ / "saved");
  const CheckpointReader reader(directory_ / "saved");
  EXPECT_EQ(reader.frames_of(0).size(), 2u + 2 + 3 + 3 + 1 + 1 + 2 + 2);
  CheckpointReader::Workspace workspace;
  std::vector<std::byte> payload(layout.block(0).payload_bytes), read(2 * 300000);
  fill_payload(layout, layout.block(0), 0, payload);
  for (const uint64_t first : {0, 1, 150000, 250000}) {  // in elements; across pieces
    reader.read(0, 0, first, read, workspace);
    EXPECT_EQ(std::memcmp(read.data(), payload.data() + 2 * first, read.size()), 0) << first;
  }
}

}  // namespace
}  // namespace headrace

// What creation leaves behind when it ends early, and where a run's shards may lie.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>

#include "storage/file.h"
#include "storage/shard.h"
#include "storage/store.h"
#include "storage/verify.h"
#include "tests/support/child_process.h"
#include "tests/support/expect_error.h"
#include "tests/support/faulty_io.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using namespace storage;
using namespace testing;

class StoreCreateTest : public ::testing::Test {
 protected:
  std::string subdirectory(const std::string& name) {
    fs::create_directories(directory_ / name);
    return directory_ / name;
  }
  std::string first_difference_at(uint64_t step, const std::vector<std::string>& shard_dirs = {}) {
    const auto io = make_block_io({});
    const auto store = Store::open(run_, shard_dirs, *io);
    return first_difference(*store, *io, step);
  }
  void create(const std::vector<std::string>& shard_dirs = {}) {
    const auto io = make_block_io({});
    create_small(small_config(run_, shard_dirs), *io);
  }
  static size_t entries(const std::string& path) {
    return static_cast<size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator()));
  }
  static std::string shard_below(const std::string& directory) {
    return fs::directory_iterator(directory)->path().string();
  }
  // Creates in a child that is killed when the filler is called for the time `calls`.
  void create_and_die(const std::vector<std::string>& shard_dirs, int calls) {
    const ChildResult child = run_in_child([&]() -> std::string {
      const auto io = make_block_io({});
      const StoreConfig config = small_config(run_, shard_dirs);
      const BlockFiller whole = small_filler(config.layout);
      std::atomic<int> left = calls;
      Store::create(
          config, *io,
          [&](const BlockLayout& block, std::span<std::byte> payload) {
            if (--left <= 0) kill(getpid(), SIGKILL);
            return whole(block, payload);
          },
          2, nullptr);
      return "created";
    });
    EXPECT_EQ(child.signal, SIGKILL) << child.output;
  }

  TemporaryDirectory directory_;
  std::string run_ = directory_ / "run";
};

TEST_F(StoreCreateTest, RemainsOfAKilledCreationAreRemovedByTheNext) {
  const std::string a = subdirectory("a"), b = subdirectory("b");
  create_and_die({a, b}, 7);
  EXPECT_FALSE(Store::exists(run_));
  EXPECT_EQ(entries(a), 1u);
  write_file(a + "/mine", "stays");
  create_and_die({}, 3);
  EXPECT_EQ(entries(a), 1u);
  EXPECT_EQ(entries(b), 0u);
  EXPECT_EQ(read_file(a + "/mine"), "stays");
  create({b});
  EXPECT_EQ(entries(b), 1u);
  EXPECT_EQ(first_difference_at(0), "");
}

TEST_F(StoreCreateTest, NothingUnmarkedIsRemoved) {
  fs::create_directories(run_ + "/shards/000");
  write_file(run_ + "/shards/000/data.mdb", "mine");
  expect_error(ErrorKind::kUsage, "is not empty", [&] { create(); });
  EXPECT_EQ(read_file(run_ + "/shards/000/data.mdb"), "mine");
  fs::remove_all(run_);
  create();
  expect_error(ErrorKind::kUsage, "already holds a run", [&] { create(); });
  EXPECT_EQ(first_difference_at(0), "");
}

TEST_F(StoreCreateTest, AMarkerThatIsNotOursIsLeftAlone) {
  fs::create_directories(run_ + "/precious");
  write_file(run_ + "/precious/data.mdb", "mine");
  for (const char* text :
       {"", "{}", R"({"kind":"unfinished headrace run","run_id":"","shards":["precious"]})",
        R"({"kind":"unfinished headrace run","run_id":"0123","shards":["precious"]})", "[[["}) {
    write_file(run_ + "/creating.json", text);
    expect_error(ErrorKind::kUsage, "creating.json", [&] { create(); });
  }
  EXPECT_EQ(read_file(run_ + "/precious/data.mdb"), "mine");
}

TEST_F(StoreCreateTest, AFailedCreationLeavesNothing) {
  const std::string a = subdirectory("a");
  const auto io = make_block_io({});
  for (const IoKind kind : {IoKind::kWrite, IoKind::kSync}) {
    FaultyIo faulty(*io, {{kind, 0, FaultAction::kFail}});
    EXPECT_THROW(create_small(small_config(run_, {a}), faulty), Error);
    EXPECT_FALSE(fs::exists(run_));
    EXPECT_EQ(entries(a), 0u);
  }
  const StoreConfig config = small_config(run_, {a});
  const BlockFiller filler = [](const BlockLayout&, std::span<std::byte>) -> uint32_t {
    throw Error(ErrorKind::kUsage, "no content");
  };
  expect_error(ErrorKind::kUsage, "no content", [&] { Store::create(config, *io, filler, 3, nullptr); });
  EXPECT_FALSE(fs::exists(run_));
}

TEST_F(StoreCreateTest, AFullDiskIsRefusedWithTheBytes) {
  if (geteuid() != 0) GTEST_SKIP() << "needs to mount a file system: run as root";
  const std::string small = subdirectory("small");
  ASSERT_EQ(mount("none", small.c_str(), "tmpfs", 0, "size=1m"), 0);
  expect_error(ErrorKind::kRefused, "too little space in " + small, [&] { create({small}); });
  EXPECT_EQ(entries(small), 0u);
  EXPECT_FALSE(fs::exists(run_));
  expect_error(ErrorKind::kRefused, "1.00 MiB free", [&] { create({small}); });
  // Where free space was promised and is gone when it is reserved.
  const Layout layout = small_layout();
  std::vector<const BlockLayout*> blocks;
  for (const BlockLayout& block : layout.blocks()) blocks.push_back(&block);
  expect_error(ErrorKind::kRefused, "No space left on device", [&] {
    lay_out_shard(small, {std::string(32, 'a'), 0, 1}, blocks);
  });
  EXPECT_EQ(umount(small.c_str()), 0);
}

TEST_F(StoreCreateTest, ShardsAreFoundWhereTheyWereMoved) {
  create({subdirectory("a"), subdirectory("b")});
  fs::create_directories(directory_ / "c");
  fs::rename(directory_ / "a", directory_ / "c/a");
  fs::rename(directory_ / "b", directory_ / "c/b");
  expect_error(ErrorKind::kRefused, "is not at", [&] { first_difference_at(0); });
  expect_error(ErrorKind::kRefused, "in none of the given directories",
               [&] { first_difference_at(0, {directory_ / "c/a"}); });
  EXPECT_EQ(first_difference_at(0, {directory_ / "c/b", directory_ / "c/a"}), "");
  EXPECT_EQ(first_difference_at(0), "");  // remembered
}

TEST_F(StoreCreateTest, ACopyDoesNotTouchTheShardsOfTheOriginal) {
  create({subdirectory("a")});
  const std::string original = run_;
  fs::copy(run_, directory_ / "copy", fs::copy_options::recursive);
  run_ = directory_ / "copy";
  expect_error(ErrorKind::kRefused, "was moved or copied from", [&] { first_difference_at(0); });
  fs::copy(directory_ / "a", directory_ / "b", fs::copy_options::recursive);
  EXPECT_EQ(first_difference_at(0, {directory_ / "b"}), "");
  EXPECT_EQ(first_difference_at(0), "");
  run_ = original;
  EXPECT_EQ(first_difference_at(0), "");
}

TEST_F(StoreCreateTest, ARunThatHoldsItsShardsCanBeMovedAndCopied) {
  create();
  fs::rename(run_, directory_ / "moved");
  run_ = directory_ / "moved";
  EXPECT_EQ(first_difference_at(0), "");
  fs::copy(run_, directory_ / "copy", fs::copy_options::recursive);
  run_ = directory_ / "copy";
  EXPECT_EQ(first_difference_at(0), "");
}

TEST_F(StoreCreateTest, SwappedTruncatedAndForeignShardsAreNamed) {
  const std::string a = subdirectory("a"), b = subdirectory("b");
  create({a, b});
  const std::string first = shard_below(a) + "/data.mdb", second = shard_below(b) + "/data.mdb";
  const auto swap = [&] {
    fs::rename(first, a + "/kept");
    fs::rename(second, first);
    fs::rename(a + "/kept", second);
  };
  swap();
  expect_error(ErrorKind::kCorrupt, "shard 0", [&] { first_difference_at(0); });
  swap();
  EXPECT_EQ(first_difference_at(0), "");
  const uint64_t bytes = fs::file_size(second);
  fs::resize_file(second, bytes - 4096);
  expect_error(ErrorKind::kCorrupt, second, [&] { first_difference_at(0); });
  fs::resize_file(second, bytes);
  const std::string other = subdirectory("other");
  const std::string kept = run_;
  run_ = directory_ / "run2";
  create({other, subdirectory("other2")});
  run_ = kept;
  fs::copy_file(shard_below(other) + "/data.mdb", first, fs::copy_options::overwrite_existing);
  expect_error(ErrorKind::kCorrupt, first, [&] { first_difference_at(0); });
}

TEST_F(StoreCreateTest, FlippedBitsInAShardsStructureAreFound) {
  create();
  const std::string shard = run_ + "/shards/000/data.mdb";
  const std::string whole = read_file(shard);
  for (const size_t at : {size_t{24}, size_t{4096 + 144}, size_t{2 * 4096 + 40}, size_t{3 * 4096 + 100}}) {
    std::string bytes = whole;
    bytes[at] = static_cast<char>(bytes[at] ^ 4);
    write_file(shard, bytes);
    expect_error(ErrorKind::kCorrupt, shard, [&] { first_difference_at(0); });
  }
  write_file(shard, whole);
  EXPECT_EQ(first_difference_at(0), "");
}

TEST_F(StoreCreateTest, PayloadsThatNobodyWroteReadAsZeros) {
  // More records than one transaction of the layout takes, so that pages are freed in between.
  TensorSpec tensor{"many", 2500, 4, 1, 2, {{"plane", 4}}, {{"many", {2500, 4}, 0}}};
  const StoreConfig config{run_, {}, Layout({tensor}), "{}", "{}"};
  const auto io = make_block_io({});
  Store::create(
      config, *io, [](const BlockLayout&, std::span<std::byte>) { return 0u; }, 2, nullptr);
  const auto store = Store::open(run_, {}, *io);
  verify_all(*store, *io);
}

}  // namespace
}  // namespace headrace

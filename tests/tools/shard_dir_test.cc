// Shards on two real file systems: both get their share, and one that cannot be used is named.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "build_paths.h"
#include "tests/support/loop_mount.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::LoopMount;
using testing::ProcessResult;
using testing::ToolRun;

namespace fs = std::filesystem;

constexpr uint64_t kSteps = 3;
constexpr uint64_t kRow = 64 * 12;                                   // bytes of a row of 64 columns
constexpr uint64_t kLargestRecord = 2 * (256 * kRow + 4096 + 4096);  // a panel's two slots, each padded
const char* const kModel =
    R"({"model_type": "gpt2", "n_layer": 4, "n_embd": 64, "n_head": 2, "vocab_size": 2000, "n_positions": 32})";

class ShardDirs : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const LoopMount* const mount : {&first_, &second_})
      if (!mount->why_not().empty()) GTEST_SKIP() << mount->why_not();
  }

  ProcessResult train(uint64_t steps, const std::string& first, const std::string& second) const {
    std::vector<std::string> options{"--memory", "64MiB", "--shard-dir", first, "--shard-dir", second};
    if (!fs::exists(tool_.path("run"))) {
      for (const char* option : {"--batch", "2", "--seq", "16", "--block-size", "192KiB"})
        options.emplace_back(option);
    }
    return tool_.train("run", steps, options);
  }

  // Names in a directory, without the file system's own.
  static std::vector<std::string> names_in(const std::string& directory) {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(directory))
      if (entry.path().filename() != "lost+found") names.push_back(entry.path().filename());
    return names;
  }

  // Bytes that the shard in it takes on the drive.
  static uint64_t shard_bytes(const std::string& directory) {
    const std::vector<std::string> names = names_in(directory);
    EXPECT_EQ(names.size(), 1u);
    return fs::file_size(directory + "/" + names.at(0) + "/data.mdb");
  }

  void expect_nothing_left() const {
    EXPECT_FALSE(fs::exists(tool_.path("run")));
    EXPECT_THAT(names_in(first_.path()), ElementsAre());
    EXPECT_THAT(names_in(second_.path()), ElementsAre());
  }

  const ToolRun tool_{HEADRACE_BINARY, kModel, 20000};
  LoopMount first_{64}, second_{64};
};

TEST_F(ShardDirs, ShareTheBlocksEvenlyAndChangeNoResult) {
  const ProcessResult result = train(kSteps, first_.path(), second_.path());
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const uint64_t first = shard_bytes(first_.path()), second = shard_bytes(second_.path());
  std::printf("%llu and %llu bytes, a block's record %llu\n", static_cast<unsigned long long>(first),
              static_cast<unsigned long long>(second), static_cast<unsigned long long>(kLargestRecord));
  EXPECT_GT(first, 4 * kLargestRecord);
  EXPECT_LE(std::max(first, second) - std::min(first, second), kLargestRecord);
  ASSERT_EQ(tool_.train("inside", kSteps, {"--memory", "64MiB", "--batch", "2", "--seq", "16"}).exit_status,
            0);
  EXPECT_EQ(tool_.digest("run"), tool_.digest("inside"));
}

TEST_F(ShardDirs, AreNamedWhereOneIsFull) {
  const LoopMount small(2, "nodelalloc");
  ASSERT_EQ(small.why_not(), "");
  const ProcessResult result = train(kSteps, first_.path(), small.path());
  EXPECT_EQ(result.exit_status, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr(small.path()));
  EXPECT_THAT(names_in(small.path()), ElementsAre());
  expect_nothing_left();
}

TEST_F(ShardDirs, AreNamedWhereOneIsMissing) {
  const ProcessResult result = train(kSteps, first_.path(), second_.path() + "/none");
  EXPECT_EQ(result.exit_status, 2) << result.err;
  EXPECT_THAT(result.err, HasSubstr(second_.path() + "/none"));
  expect_nothing_left();
}

TEST_F(ShardDirs, AreNamedWhereOneIsReadOnly) {
  ASSERT_EQ(second_.remount("ro"), "");
  const ProcessResult result = train(kSteps, first_.path(), second_.path());
  EXPECT_EQ(result.exit_status, 3) << result.err;
  EXPECT_THAT(result.err, HasSubstr(second_.path()));
  EXPECT_THAT(result.err, HasSubstr("Read-only file system"));
  expect_nothing_left();
}

TEST_F(ShardDirs, AreNamedWhereOneIsGoneOrReadOnlyAtAResume) {
  ASSERT_EQ(train(1, first_.path(), second_.path()).exit_status, 0);
  const std::string before = tool_.digest("run");
  ASSERT_EQ(second_.remount("ro"), "");
  const ProcessResult read_only = train(2, first_.path(), second_.path());
  EXPECT_EQ(read_only.exit_status, 1) << read_only.err;
  EXPECT_THAT(read_only.err, HasSubstr(second_.path()));
  EXPECT_THAT(read_only.err, HasSubstr("Read-only file system"));
  ASSERT_EQ(second_.remount("rw"), "");
  EXPECT_EQ(tool_.digest("run"), before);
  second_.unmount();
  const ProcessResult gone = tool_.train("run", 2, {"--memory", "64MiB"});
  EXPECT_EQ(gone.exit_status, 3) << gone.err;
  EXPECT_THAT(gone.err, HasSubstr(second_.path()));
}

}  // namespace
}  // namespace headrace

// A disk that fills up under a training: a pause where somebody waits, an end that loses nothing where nobody
// does, and the same bits in the end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <thread>

#include "build_paths.h"
#include "tests/support/small_disk.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using testing::DiskKind;
using ::testing::HasSubstr;
using testing::Process;
using testing::ProcessResult;
using testing::SmallDisk;
using testing::ToolRun;

constexpr uint64_t kSteps = 400;
constexpr auto kPatience = std::chrono::seconds(60);
const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 64, "n_head": 2, "vocab_size": 256, "n_positions": 32})";

class FullDisk : public ::testing::TestWithParam<DiskKind> {
 protected:
  void SetUp() override {
    std::filesystem::create_directory(tool_.path("disk"));
    disk_.emplace(tool_.path("disk"), GetParam(), uint64_t{16} << 20);
    if (!disk_->why_not().empty()) GTEST_SKIP() << disk_->why_not();
    ASSERT_EQ(tool_.train("whole", kSteps, options_).exit_status, 0);
  }

  std::vector<std::string> arguments(const std::string& more = "") const {
    std::vector<std::string> all = tool_.train_arguments("disk/run", kSteps, options_);
    if (!more.empty()) all.push_back(more);
    return all;
  }

  // Starts a run and fills the disk in the middle of it.
  void fill_during(Process& process) {
    ASSERT_TRUE(process.wait_for_text("\nstep 5/", kPatience));
    disk_->fill();
  }

  void expect_the_same_end() {
    EXPECT_EQ(tool_.digest("disk/run"), tool_.digest("whole"));
    EXPECT_EQ(tool_.metrics("disk/run"), tool_.metrics("whole"));
  }

  const ToolRun tool_{HEADRACE_BINARY, kConfig, 5000};
  const std::vector<std::string> options_{"--seq",      "32",       "--batch",  "2",
                                          "--schedule", "constant", "--memory", "64MiB"};
  std::optional<SmallDisk> disk_;
};

TEST_P(FullDisk, IsAPauseWhereSomebodyWaits) {
  Process process(HEADRACE_BINARY,
                  {.arguments = arguments("--wait-for-space"), .directory = tool_.directory()});
  fill_during(process);
  ASSERT_TRUE(process.wait_for_text("waiting for space", kPatience));
  disk_->empty();
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err,
              ::testing::ContainsRegex("too little space in disk/run.*; [0-9]+ bytes more are needed for .*, "
                                       "[0-9]+ are free; step [0-9]+ is committed; waiting"));
  EXPECT_THAT(result.err, HasSubstr("there is room again: going on"));
  expect_the_same_end();
}

TEST_P(FullDisk, EndsARunForWhichNobodyWaits) {
  Process process(HEADRACE_BINARY, {.arguments = arguments(), .directory = tool_.directory()});
  fill_during(process);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.exit_status, 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("error: too little space in disk/run"));
  EXPECT_THAT(result.err, HasSubstr("--wait-for-space"));
  const size_t committed = tool_.metrics("disk/run").size();
  EXPECT_THAT(result.err, HasSubstr("step " + std::to_string(committed) + " is committed"));

  const ProcessResult refused = tool_.run(arguments());
  EXPECT_EQ(refused.exit_status, 3) << "the disk is full before anything begins: " << refused.err;
  EXPECT_EQ(tool_.metrics("disk/run").size(), committed);
  disk_->empty();
  EXPECT_EQ(tool_.run(arguments()).exit_status, 0);
  expect_the_same_end();
}

TEST_P(FullDisk, CanBeGivenUpWaitingFor) {
  Process process(HEADRACE_BINARY,
                  {.arguments = arguments("--wait-for-space"), .directory = tool_.directory()});
  fill_during(process);
  ASSERT_TRUE(process.wait_for_text("waiting for space", kPatience));
  process.send(SIGINT);
  const ProcessResult result = process.finish();
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("stopped while waiting for space"));
  EXPECT_THAT(result.out, HasSubstr("Stopped at step " + std::to_string(tool_.metrics("disk/run").size())));
  disk_->empty();
  EXPECT_EQ(tool_.run(arguments()).exit_status, 0);
  expect_the_same_end();
}

// The blocks' space was reserved when the run was made: a full disk does not keep them from being written,
// not even where nothing was written before. Nothing else grows until the commit.
TEST_P(FullDisk, TakesTheBlocksOfAllSteps) {
  std::vector<std::string> rare = options_;
  rare.insert(rare.end(), {"--commit-every", "1000"});
  ASSERT_EQ(tool_.train("disk/run", 1, rare).exit_status, 0);
  // A disk that is full before the first step begins is another case: then once more, and filled later.
  ProcessResult result;
  for (int tries = 0; tries == 0 || (result.exit_status == 3 && tries < 10); tries++) {
    disk_->empty();
    Process process(HEADRACE_BINARY,
                    {.arguments = tool_.train_arguments("disk/run", kSteps, {"--memory", "64MiB"}),
                     .directory = tool_.directory()});
    ASSERT_TRUE(process.wait_for_text("resuming", kPatience));
    std::this_thread::sleep_for(std::chrono::milliseconds(20 * tries));
    disk_->fill();
    result = process.finish();
  }
  EXPECT_EQ(result.exit_status, 1) << "the commit after the last step found no room";
  EXPECT_THAT(result.err, HasSubstr("error: too little space in "));
  EXPECT_THAT(result.err, ::testing::Not(HasSubstr("blocks to be written")));
  disk_->empty();
  EXPECT_EQ(tool_.run(tool_.train_arguments("disk/run", kSteps)).exit_status, 0);
  expect_the_same_end();
}

INSTANTIATE_TEST_SUITE_P(On, FullDisk, ::testing::Values(DiskKind::kTmpfs, DiskKind::kExt4),
                         [](const auto& kind) { return kind.param == DiskKind::kTmpfs ? "Tmpfs" : "Ext4"; });

}  // namespace
}  // namespace headrace

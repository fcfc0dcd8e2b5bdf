// Training chooses transfers by itself, says so in a line, and computes the same whatever it chose.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "build_paths.h"
#include "storage/drive_profile.h"
#include "tests/support/tool_run.h"

namespace headrace::tools {
namespace {

using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::ToolRun;

constexpr const char* kTinyModel =
    R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 256, "n_positions": 32})";
const std::vector<std::string> kOptions{"--memory", "64MiB", "--batch", "2", "--seq", "16"};

TEST(IoChoice, FollowsTheStoredProfileOrTheDeviceAndChangesNoResult) {
  const ToolRun tool(HEADRACE_BINARY, kTinyModel, 20000);
  const ProcessResult plain = tool.train("plain", 2, kOptions);
  ASSERT_EQ(plain.exit_status, 0) << plain.err;
  EXPECT_THAT(plain.err, HasSubstr("disk access: "));
  EXPECT_THAT(plain.err, HasSubstr(" in flight on a drive: "));

  storage::DriveProfile profile = storage::describe_place(tool.directory());
  profile.read = {2e9, 16384, 3, 0, 0};
  profile.write = {1e9, 16384, 3, 0, 0};
  storage::write_drive_profile(tool.directory(), profile);
  const ProcessResult tuned = tool.train("tuned", 2, kOptions);
  ASSERT_EQ(tuned.exit_status, 0) << tuned.err;
  EXPECT_THAT(tuned.err, HasSubstr("transfers of 16KiB, 3 in flight on a drive: as measured on "));
  EXPECT_EQ(tool.digest("tuned"), tool.digest("plain"));

  testing::write_file(tool.path(storage::kProfileName), "[[[[");
  const ProcessResult warned = tool.train("plain", 3, {"--memory", "64MiB"});
  ASSERT_EQ(warned.exit_status, 0) << warned.err;
  EXPECT_THAT(warned.err, HasSubstr("is ignored: it is no JSON object\n"));
}

// A directory that was measured may then become a run.
TEST(IoChoice, FindsAProfileInTheRunsOwnDirectory) {
  const ToolRun tool(HEADRACE_BINARY, kTinyModel, 20000);
  ASSERT_EQ(::mkdir(tool.path("run").c_str(), 0755), 0);
  storage::DriveProfile profile = storage::describe_place(tool.directory());
  profile.read = {2e9, 32768, 5, 0, 0};
  profile.write = {1e9, 32768, 5, 0, 0};
  storage::write_drive_profile(tool.path("run"), profile);
  for (const uint64_t steps : {1, 2}) {
    const ProcessResult result = tool.train("run", steps, kOptions);
    ASSERT_EQ(result.exit_status, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("transfers of 32KiB, 5 in flight on a drive: as measured on "));
  }
}

}  // namespace
}  // namespace headrace::tools

// What `headrace bench` leaves for training and planning.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "storage/drive_profile.h"
#include "storage/drive_properties.h"
#include "tests/support/tool_run.h"

namespace headrace::tools {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::ToolRun;

class BenchProfile : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directory(tool_.path("drive")); }
  ProcessResult bench(std::vector<std::string> more) const {
    std::vector<std::string> all{"bench", "drive", "--size", "256MiB"};
    all.insert(all.end(), more.begin(), more.end());
    return tool_.run(all);
  }
  std::string profile_path() const { return tool_.path("drive") + "/" + storage::kProfileName; }

  ToolRun tool_{HEADRACE_BINARY,
                R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "n_positions": 32})",
                20000};
};

TEST_F(BenchProfile, IsStoredAndGoneByFromThenOn) {
  if (storage::file_system_name(tool_.directory()) == "tmpfs") GTEST_SKIP() << "no drive to measure";
  const ProcessResult result = bench({"--rw", "read,write,rw"});
  ASSERT_EQ(result.exit_status, 0) << result.err;
  if (result.out.find("from cache") != std::string::npos) GTEST_SKIP() << "memory gave the results";
  EXPECT_THAT(result.err, HasSubstr("says from now on what suits this drive"));
  const storage::FoundProfile found = storage::find_drive_profile(tool_.path("drive"));
  ASSERT_TRUE(found.profile) << found.warning;
  EXPECT_GT(found.profile->read.latency_p99_us, 0);
  EXPECT_TRUE(found.profile->mix);
  const ProcessResult plan = tool_.run(
      {"plan", "drive/run", "--model", "config.json", "--seq", "32", "--memory", "64MiB", "--json"});
  ASSERT_EQ(plan.exit_status, 0) << plan.err;
  const auto json = nlohmann::json::parse(plan.out);
  EXPECT_EQ(json["drives"][0]["read_bytes_per_second"], found.profile->read.bytes_per_second);
  EXPECT_NE(json["step"]["bottleneck"], "unknown");
  EXPECT_GT(json["step"]["seconds"], 0);
}

TEST_F(BenchProfile, IsLeftOutWhereAskedOrWhereTooLittleWasMeasured) {
  ASSERT_EQ(bench({"--rw", "read,write", "--no-profile"}).exit_status, 0);
  EXPECT_FALSE(fs::exists(profile_path()));
  const ProcessResult one_way = bench({"--rw", "read"});
  ASSERT_EQ(one_way.exit_status, 0) << one_way.err;
  EXPECT_THAT(one_way.err, HasSubstr("no profile is stored in drive: "));
  EXPECT_FALSE(fs::exists(profile_path()));
}

TEST_F(BenchProfile, ThatCannotBeWrittenSpoilsNoMeasurement) {
  fs::create_directory(profile_path());
  const ProcessResult result = bench({"--rw", "read,write"});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("MB/s"));
  EXPECT_THAT(result.err, HasSubstr("no profile is stored in drive: "));
  EXPECT_FALSE(fs::exists(profile_path() + ".new"));
}

}  // namespace
}  // namespace headrace::tools

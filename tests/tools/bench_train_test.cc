// headrace bench --pattern train: the transfers of a training without its mathematics.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "build_paths.h"
#include "tests/support/tool_run.h"

namespace headrace::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::ToolRun;

class BenchTrain : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* name : {"one", "two"}) fs::create_directory(tool_.path(name));
  }
  static std::vector<std::string> arguments(std::vector<std::string> more) {
    more.insert(more.end(), {"--pattern", "train", "--model", "config.json", "--batch", "4", "--seq", "64"});
    more.insert(more.begin(), "bench");
    return more;
  }
  void expect_nothing_left() const {
    for (const char* name : {"one", "two"}) EXPECT_TRUE(fs::is_empty(tool_.path(name))) << name;
  }
  // Whether a file of that name lies somewhere below.
  bool holds(const std::string& directory, const std::string& name) const {
    std::error_code ignored;  // it changes meanwhile
    for (fs::recursive_directory_iterator entry(tool_.path(directory), ignored), end; entry != end;
         entry.increment(ignored))
      if (entry->path().filename() == name) return true;
    return false;
  }

  ToolRun tool_{HEADRACE_BINARY,
                R"({"model_type": "gpt2", "n_layer": 4, "n_embd": 128, "n_head": 4, "vocab_size": 256,
                    "n_positions": 64})",
                1000};
};

TEST_F(BenchTrain, MovesWhatThePlanSays) {
  const ProcessResult result = tool_.run(arguments({"one", "two", "--memory", "33MiB", "--json"}));
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const json measured = json::parse(result.out);
  const ProcessResult plan = tool_.run(
      {"plan", "--model", "config.json", "--batch", "4", "--seq", "64", "--memory", "33MiB", "--json"});
  const json steps = json::parse(plan.out)["step"]["first_steps"];
  for (const char* field : {"read_bytes", "written_bytes"}) {
    const uint64_t sum =
        steps[2][field].get<uint64_t>() + steps[3][field].get<uint64_t>() + steps[4][field].get<uint64_t>();
    EXPECT_EQ(measured[field], sum / 3) << field;
    EXPECT_GT(measured[field], 0) << field;
  }
  EXPECT_GT(measured["read_bytes_per_second"], 0);
  EXPECT_GT(measured["disk_seconds"]["median"], 0);
  EXPECT_LE(measured["disk_seconds"]["least"], measured["disk_seconds"]["median"]);
  EXPECT_GT(measured["steps_per_minute"], 0);
  EXPECT_TRUE(measured["bottleneck"] == "disk" || measured["bottleneck"] == "compute");
  EXPECT_TRUE(measured.contains("hiding_tokens"));
  expect_nothing_left();
}

TEST_F(BenchTrain, PrintsWhatItMeans) {
  const ProcessResult result = tool_.run(arguments({"one", "--memory", "40MiB", "--steps", "1"}));
  ASSERT_EQ(result.exit_status, 0) << result.err;
  for (const char* text : {"without their mathematics", "256 tokens", "hiding the disk", "steps a minute",
                           "bottleneck", "checksums and commits included", " in flight on a drive: "})
    EXPECT_THAT(result.out, HasSubstr(text));
  expect_nothing_left();
}

TEST_F(BenchTrain, RemovesItsFilesWhenItIsStopped) {
  // While it writes the blocks, and while it does steps.
  for (const char* seen : {"data.mdb", "metrics.jsonl"}) {
    testing::ProcessOptions options;
    options.arguments = arguments({"one", "two", "--memory", "64MiB", "--steps", "1000"});
    options.directory = tool_.directory();
    testing::Process process(tool_.binary(), options);
    for (int i = 0; i < 2000 && !holds("one", seen); i++)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_TRUE(holds("one", seen)) << seen;
    process.send(SIGINT);
    const ProcessResult result = process.finish(std::chrono::minutes(1));
    EXPECT_EQ(result.exit_status, 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("stopped before all was measured"));
    EXPECT_EQ(result.out, "");
    expect_nothing_left();
  }
}

TEST_F(BenchTrain, SaysWhatWouldDo) {
  for (const auto& [more, status, text] : std::vector<std::tuple<std::vector<std::string>, int, std::string>>{
           {{"none"}, 2, "cannot make a directory in none: No such file or directory"},
           {{"config.json"}, 2, "Not a directory"},
           {{}, 2, "no DIR was named"},
           {{"one", "--memory", "1MiB"}, 3, "this training needs at least"},
           {{"one", "--steps", "5000"}, 2, "give --steps 1000 or less"},
           {{"one", "--rw", "read"}, 2, "unknown option --rw"},
           {{"one", "--data", "text"}, 2, "unknown option --data"},
           {{"one", "--seq", "32"}, 2, "--seq was given 2 times"}}) {
    const ProcessResult result = tool_.run(arguments(more));
    EXPECT_EQ(result.exit_status, status) << text << result.err;
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_EQ(result.out, "");
    expect_nothing_left();
  }
  EXPECT_THAT(tool_.run({"bench", "one", "--pattern", "train"}).err, HasSubstr("say it with --model M"));
  EXPECT_THAT(tool_.run({"bench", "one", "--pattern", "train,sweep"}).err,
              HasSubstr("'train' is measured alone"));
  EXPECT_THAT(tool_.run({"bench", "--pattern", "train", "--help"}).out, HasSubstr("--micro-batch"));
}

TEST_F(BenchTrain, LeavesAFullDriveAsItWas) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root mounts file systems";
  if (::mount("tmpfs", tool_.path("two").c_str(), "tmpfs", 0, "size=8m") != 0)
    GTEST_SKIP() << "mounting is refused here";
  const ProcessResult result = tool_.run(arguments({"two", "--memory", "64MiB"}));
  const bool empty = fs::is_empty(tool_.path("two"));
  ::umount(tool_.path("two").c_str());
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.err, HasSubstr("too little space in "));
  EXPECT_TRUE(empty);
}

}  // namespace
}  // namespace headrace::tools

// Checkpoints taken while a run trains: they are what the run was at their step, the run does not notice, and
// neither a kill nor a full disk leaves anything that is half there.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "build_paths.h"
#include "storage/block_io.h"
#include "storage/store.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Process;
using testing::ProcessResult;
using testing::ToolRun;

const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 192, "n_head": 2, "vocab_size": 500, "n_positions": 64})";

class CheckpointTraining : public ::testing::Test {
 protected:
  static std::vector<std::string> with(std::vector<std::string> options) {
    const std::vector<std::string> base{"--seq",    "32",    "--batch",      "2",    "--schedule", "constant",
                                        "--memory", "64MiB", "--block-size", "1MiB", "--threads",  "2"};
    options.insert(options.begin(), base.begin(), base.end());
    return options;
  }
  ProcessResult train(const std::string& run, uint64_t steps, const std::vector<std::string>& options) const {
    ProcessResult result = tool_.train(run, steps, with(options));
    EXPECT_EQ(result.exit_status, 0) << result.err;
    return result;
  }
  std::vector<std::string> checkpoints(const std::string& run) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(tool_.path(run) + "/checkpoints"))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  // The digest of a run restored from it.
  std::string digest_of(const std::string& run, const std::string& checkpoint) const {
    const std::string name = "restored";
    const ProcessResult result = tool_.run({"restore", run + "/checkpoints/" + checkpoint, name});
    EXPECT_EQ(result.exit_status, 0) << result.err;
    const std::string digest = tool_.digest(name);
    fs::remove_all(tool_.path(name));
    return digest;
  }

  ToolRun tool_{HEADRACE_BINARY, kConfig, 20000};
};

class CheckpointsOfKinds : public CheckpointTraining,
                           public ::testing::WithParamInterface<std::vector<std::string>> {};

TEST_P(CheckpointsOfKinds, AreTheRunAtTheirStep) {
  std::map<std::string, std::string> digests;  // by checkpoint
  for (const uint64_t step : {3, 6, 8}) {
    train("plain", step, GetParam());
    digests["step-00000" + std::to_string(step)] = tool_.digest("plain");
  }
  std::vector<std::string> options = GetParam();
  options.insert(options.end(), {"--checkpoint-every", "3", "--json"});
  const ProcessResult result = train("run", 8, options);
  EXPECT_EQ(tool_.digest("run"), digests["step-000008"]) << "the run does not notice";
  EXPECT_EQ(tool_.metrics("run"), tool_.metrics("plain"));
  EXPECT_THAT(checkpoints("run"), ElementsAre("step-000003", "step-000006"));
  for (const std::string& name : checkpoints("run")) EXPECT_EQ(digest_of("run", name), digests[name]) << name;
  const std::string summary = result.out.substr(result.out.rfind("{\"summary\""));
  EXPECT_EQ(nlohmann::json::parse(summary).at("checkpoints"), 2);
  EXPECT_EQ(nlohmann::json::parse(summary).at("checkpoint_read_bytes"), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Training, CheckpointsOfKinds,
    ::testing::Values(std::vector<std::string>{"--clip", "0.5"}, std::vector<std::string>{"--clip", "0"},
                      std::vector<std::string>{"--clip", "1", "--commit-every", "4"},
                      std::vector<std::string>{"--clip", "0", "--weights", "bf16", "--commit-every", "2"}));

TEST_F(CheckpointTraining, TheNewestAreKept) {
  train("run", 5, {"--checkpoint-every", "1", "--keep", "2"});
  EXPECT_THAT(checkpoints("run"), ElementsAre("step-000004", "step-000005"));
  EXPECT_EQ(tool_.run({"checkpoint", "run", "--weights-only"}).exit_status, 0);
  train("run", 7,
        {"--checkpoint-every", "1", "--keep", "1", "--checkpoint-weights-only", "--checkpoint-level", "3"});
  EXPECT_THAT(checkpoints("run"), ElementsAre("step-000005-weights", "step-000007-weights"))
      << "what was saved by hand stays";
}

TEST_F(CheckpointTraining, AStoppedRunKeepsWhatItFinished) {
  Process process(HEADRACE_BINARY,
                  {.arguments = tool_.train_arguments("run", 100000, with({"--checkpoint-every", "1"})),
                   .directory = tool_.directory()});
  ASSERT_TRUE(process.wait_for_text("checkpoint of step 2", std::chrono::seconds(60)));
  process.send(SIGTERM);
  const ProcessResult stopped = process.finish();
  ASSERT_EQ(stopped.exit_status, 0) << stopped.err;
  for (const std::string& name : checkpoints("run")) EXPECT_THAT(name, Not(HasSubstr("."))) << name;
  EXPECT_EQ(checkpoints("run").size(), tool_.metrics("run").size());
  EXPECT_EQ(digest_of("run", checkpoints("run").back()), tool_.digest("run"));
}

TEST_F(CheckpointTraining, KillsLeaveWholeCheckpointsOnly) {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  constexpr uint64_t kSteps = 12;
  std::map<std::string, std::string> digests;
  for (uint64_t step = 1; step <= kSteps; step++) {
    train("plain", step, {});
    digests[step < 10 ? "step-00000" + std::to_string(step) : "step-0000" + std::to_string(step)] =
        tool_.digest("plain");
  }
  const std::vector<std::string> options = with({"--checkpoint-every", "2"});
  const double seconds = train("timed", kSteps, {"--checkpoint-every", "2"}).seconds;
  const char* given = std::getenv("HEADRACE_KILLS");
  const int wanted = given == nullptr ? 12 : std::atoi(given);
  int kills = 0;
  for (int round = 0; kills < wanted; round++) {
    const std::string name = "run" + std::to_string(round);
    for (;;) {
      Process process(HEADRACE_BINARY, {.arguments = tool_.train_arguments(name, kSteps, options),
                                        .directory = tool_.directory()});
      const auto moment = std::chrono::milliseconds(random() % uint64_t(seconds * 900));
      if (!process.wait_for(moment)) process.send(SIGKILL);
      const ProcessResult result = process.finish();
      const bool ended = result.signal == 0;  // a signal that comes while the process ends changes nothing
      if (ended) {
        ASSERT_EQ(result.exit_status, 0) << result.err;
        break;
      }
      kills++;
    }
    EXPECT_EQ(tool_.digest(name), tool_.digest("plain"));
    EXPECT_EQ(checkpoints(name).size(), kSteps / 2);
    // One taken again may be of the step that was committed meanwhile.
    for (const std::string& checkpoint : checkpoints(name)) {
      ASSERT_TRUE(digests.contains(checkpoint)) << checkpoint;
      EXPECT_EQ(digest_of(name, checkpoint), digests[checkpoint]) << checkpoint;
    }
    fs::remove_all(tool_.path(name));
  }
  std::printf("%d kills\n", kills);
}

TEST_F(CheckpointTraining, OneThatWasCutShortIsTakenAgain) {
  train("run", 4, {"--checkpoint-every", "2"});
  const std::string digest = tool_.digest("run");
  const std::string checkpoint = tool_.path("run/checkpoints/step-000004");
  // As a kill between the commit of step 4 and the publication leaves it.
  fs::rename(checkpoint, checkpoint + ".unfinished");
  fs::remove(checkpoint + ".unfinished/manifest.json");
  {
    const auto io = storage::make_block_io({});
    storage::Store::open(tool_.path("run"), {}, *io)
        ->set_cursor(R"({"step":4,"in_flight":5,"checkpoint":4})");
  }
  const ProcessResult result = train("run", 5, {"--checkpoint-every", "1000"});
  EXPECT_THAT(result.err, HasSubstr("the checkpoint of step 4 may not be whole: taking it again"));
  EXPECT_THAT(checkpoints("run"), ElementsAre("step-000002", "step-000004"));
  EXPECT_EQ(digest_of("run", "step-000004"), digest);
  const ProcessResult after = train("run", 6, {"--checkpoint-every", "1000"});
  EXPECT_THAT(after.err, Not(HasSubstr("taking it again")));
}

TEST_F(CheckpointTraining, AFullDiskDropsTheCheckpointAndNotTheRun) {
  if (geteuid() != 0) GTEST_SKIP() << "needs to mount a file system: run as root";
  train("plain", 5, {});
  train("run", 1, {});
  const std::string place = tool_.path("run/checkpoints");
  fs::create_directory(place);
  ASSERT_EQ(mount("none", place.c_str(), "tmpfs", 0, "size=2m"), 0);
  const ProcessResult result = train("run", 5, {"--checkpoint-every", "2"});
  EXPECT_THAT(result.err, HasSubstr("the checkpoint of step 2 is dropped"));
  EXPECT_THAT(result.err, HasSubstr("the checkpoint of step 4 is dropped"));
  EXPECT_THAT(result.err, HasSubstr("No space left on device"));
  EXPECT_THAT(checkpoints("run"), ElementsAre());
  EXPECT_EQ(umount(place.c_str()), 0);
  EXPECT_EQ(tool_.digest("run"), tool_.digest("plain"));
}

TEST_F(CheckpointTraining, StaysWithinTheBudget) {
  std::vector<std::string> options = with({"--checkpoint-every", "1", "--json"});
  std::string& memory = *(std::find(options.begin(), options.end(), "--memory") + 1);
  memory = "10MiB";
  const ProcessResult refused = tool_.train("run", 4, options);
  EXPECT_EQ(refused.exit_status, 3);
  EXPECT_THAT(refused.err, HasSubstr("compressing checkpoints"));
  const size_t at = refused.err.find("needs at least ");
  ASSERT_NE(at, std::string::npos);
  const std::string least = refused.err.substr(at + 15, refused.err.find(';') - at - 15);
  memory = least;
  const ProcessResult result = tool_.train("run", 4, options);
  ASSERT_EQ(result.exit_status, 0) << result.err;
  const auto summary = nlohmann::json::parse(result.out.substr(result.out.rfind("{\"summary\"")));
#ifndef HEADRACE_ADDRESS_SANITIZER  // its shadow memory breaks every budget
  EXPECT_LE(summary.at("peak_rss_bytes"), summary.at("memory_bytes"));
#endif
  EXPECT_EQ(summary.at("checkpoints"), 4);
}

}  // namespace
}  // namespace headrace

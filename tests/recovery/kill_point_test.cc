// A run that dies at every kill point goes on from the last committed step or a later one, and ends as if
// nobody had killed it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "build_paths.h"
#include "tests/recovery/kill_points.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using testing::KillMoment;
using testing::Process;
using testing::ProcessResult;
using testing::ToolRun;

constexpr uint64_t kSteps = 4;
const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 256, "n_positions": 16})";

class KillPoints : public ::testing::Test {
 protected:
  explicit KillPoints(const std::vector<std::string>& more = {}) {
    options_.insert(options_.end(), more.begin(), more.end());
  }
  void SetUp() override {
    const ProcessResult whole = watched("whole", {{"HEADRACE_COUNT", tool_.path("counts")}});
    ASSERT_EQ(whole.exit_status, 0) << whole.err;
    digest_ = tool_.digest("whole");
    metrics_ = tool_.metrics("whole");
    ASSERT_EQ(metrics_.size(), kSteps);
    std::ifstream file(tool_.path("counts"));
    std::string name;
    for (uint64_t count = 0; file >> count && std::getline(file >> std::ws, name);) counts_[name] = count;
  }

  ProcessResult watched(const std::string& name, std::map<std::string, std::string> environment) const {
    environment["HEADRACE_WATCHED"] = tool_.directory();
    return Process(HEADRACE_WATCHED_BINARY, {.arguments = tool_.train_arguments(name, kSteps, options_),
                                             .environment = environment,
                                             .directory = tool_.directory()})
        .finish();
  }

  // Dies there, goes on, and is compared. False: it did not come to that point.
  bool dies_and_recovers(const std::string& name, KillMoment moment, uint64_t number) {
    const std::string spec =
        std::string(testing::kMomentNames[size_t(moment)]) + ":" + std::to_string(number) + ":" + name;
    SCOPED_TRACE(spec);
    const ProcessResult killed = watched("killed", {{"HEADRACE_KILL", spec}});
    EXPECT_TRUE(killed.signal == SIGKILL || killed.exit_status == 0) << killed.err;
    check_killed();
    const uint64_t reported = last_number(killed.err, "\nstep ");
    const ProcessResult resumed = tool_.run(tool_.train_arguments("killed", kSteps, options_));
    EXPECT_EQ(resumed.exit_status, 0) << resumed.err;
    if (reported > 0 && reported < kSteps) {
      EXPECT_GE(last_number(resumed.err, "resuming at step "), reported) << resumed.err;
    }
    EXPECT_EQ(tool_.digest("killed"), digest_);
    EXPECT_EQ(tool_.metrics("killed"), metrics_);
    check_resumed();
    std::filesystem::remove_all(tool_.path("killed"));
    return killed.signal == SIGKILL;
  }

  // What else must hold of the run "killed", before and after it was resumed.
  virtual void check_killed() {}
  virtual void check_resumed() {}

  static uint64_t last_number(const std::string& output, const std::string& text) {
    const size_t at = output.rfind(text);
    return at == std::string::npos ? 0 : std::strtoull(output.c_str() + at + text.size(), nullptr, 10);
  }

  const ToolRun tool_{HEADRACE_BINARY, kConfig, 2000};
  std::vector<std::string> options_{"--seq",    "16",       "--batch", "2",    "--schedule",
                                    "constant", "--memory", "64MiB",   "--io", "threads"};
  std::string digest_;
  std::vector<std::string> metrics_;
  std::map<std::string, uint64_t> counts_;
};

std::set<std::string> listed_points(bool of_checkpoints) {
  std::set<std::string> names;
  for (const testing::KillPoint& point : testing::kill_points())
    if ((std::string(point.phase) == "checkpoint") == of_checkpoints) names.insert(point.name);
  return names;
}

TEST_F(KillPoints, AreAllListed) {
  std::set<std::string> passed;
  for (const auto& [name, count] : counts_) passed.insert(name);
  EXPECT_EQ(passed, listed_points(false));
}

// Of each point the first, the second, one in the middle and the last passing; everything with
// HEADRACE_ALL_KILL_POINTS.
TEST_F(KillPoints, LoseNothing) {
  const bool all = std::getenv("HEADRACE_ALL_KILL_POINTS") != nullptr;
  int kills = 0, missed = 0;
  for (const auto& [name, count] : counts_) {
    std::set<uint64_t> numbers{1, 2, (count + 1) / 2, count};
    for (uint64_t number = 1; all && number <= count; number++) numbers.insert(number);
    for (const uint64_t number : numbers) {
      if (number == 0 || number > count) continue;
      for (const KillMoment moment : {KillMoment::kBefore, KillMoment::kHalfway, KillMoment::kAfter}) {
        const bool writes = name.find(": write") != std::string::npos;
        if (moment == KillMoment::kHalfway && !writes) continue;
        if (!all && moment == KillMoment::kBefore && number > 1 && !writes) continue;
        (dies_and_recovers(name, moment, number) ? kills : missed)++;
        if (HasFailure()) return;
      }
    }
  }
  std::printf("%d kills at %zu kill points, %d not reached\n", kills, counts_.size(), missed);
}

// The same with a checkpoint of every step, of which the newest is kept: what has its final name is whole at
// any time, and what a kill left is gone after the next session.
class CheckpointKillPoints : public KillPoints {
 protected:
  CheckpointKillPoints() : KillPoints({"--checkpoint-every", "1", "--keep", "1"}) {}
  void SetUp() override {
    KillPoints::SetUp();
    for (uint64_t step = 1; step <= kSteps; step++) {
      const std::string name = "to" + std::to_string(step);
      ASSERT_EQ(tool_.train(name, step, options_).exit_status, 0);
      digests_["step-00000" + std::to_string(step)] = tool_.digest(name);
    }
  }
  // Those with a final name.
  std::vector<std::string> checkpoints() const {
    std::vector<std::string> names;
    const std::string place = tool_.path("killed/checkpoints");
    if (!std::filesystem::exists(place)) return names;
    for (const auto& entry : std::filesystem::directory_iterator(place))
      if (digests_.contains(entry.path().filename())) names.push_back(entry.path().filename());
    return names;
  }
  void check_killed() override {
    for (const std::string& name : checkpoints())
      EXPECT_EQ(tool_.digest("killed/checkpoints/" + name), digests_[name]) << name;
  }
  void check_resumed() override {
    check_killed();
    EXPECT_TRUE(std::filesystem::exists(tool_.path("killed/checkpoints/step-000004")));
    for (const auto& entry : std::filesystem::directory_iterator(tool_.path("killed/checkpoints")))
      EXPECT_TRUE(digests_.contains(entry.path().filename())) << entry.path();
  }

  std::map<std::string, std::string> digests_;  // by checkpoint
};

TEST_F(CheckpointKillPoints, AreAllListed) {
  const std::set<std::string> others = listed_points(false);
  std::set<std::string> passed;
  for (const auto& [name, count] : counts_)
    if (!others.contains(name)) passed.insert(name);
  EXPECT_EQ(passed, listed_points(true));
}

// Of each point the middle passing; everything with HEADRACE_ALL_KILL_POINTS.
TEST_F(CheckpointKillPoints, LeaveWholeCheckpointsOnly) {
  const bool all = std::getenv("HEADRACE_ALL_KILL_POINTS") != nullptr;
  int kills = 0, missed = 0;
  for (const std::string& name : listed_points(true)) {
    const uint64_t count = counts_[name], middle = (count + 1) / 2;
    for (uint64_t number = all ? 1 : middle; number <= (all ? count : middle); number++) {
      for (const KillMoment moment : {KillMoment::kBefore, KillMoment::kHalfway, KillMoment::kAfter}) {
        if (moment == KillMoment::kHalfway && name.find(": write") == std::string::npos) continue;
        (dies_and_recovers(name, moment, number) ? kills : missed)++;
        if (HasFailure()) return;
      }
    }
  }
  std::printf("%d kills at %zu kill points of checkpoints, %d not reached\n", kills,
              listed_points(true).size(), missed);
}

}  // namespace
}  // namespace headrace

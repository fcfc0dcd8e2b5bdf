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
    const uint64_t reported = last_number(killed.err, "\nstep ");
    const ProcessResult resumed = tool_.run(tool_.train_arguments("killed", kSteps, options_));
    EXPECT_EQ(resumed.exit_status, 0) << resumed.err;
    if (reported > 0 && reported < kSteps) {
      EXPECT_GE(last_number(resumed.err, "resuming at step "), reported) << resumed.err;
    }
    EXPECT_EQ(tool_.digest("killed"), digest_);
    EXPECT_EQ(tool_.metrics("killed"), metrics_);
    std::filesystem::remove_all(tool_.path("killed"));
    return killed.signal == SIGKILL;
  }

  static uint64_t last_number(const std::string& output, const std::string& text) {
    const size_t at = output.rfind(text);
    return at == std::string::npos ? 0 : std::strtoull(output.c_str() + at + text.size(), nullptr, 10);
  }

  const ToolRun tool_{HEADRACE_BINARY, kConfig, 2000};
  const std::vector<std::string> options_{"--seq",    "16",       "--batch", "2",    "--schedule",
                                          "constant", "--memory", "64MiB",   "--io", "threads"};
  std::string digest_;
  std::vector<std::string> metrics_;
  std::map<std::string, uint64_t> counts_;
};

TEST_F(KillPoints, AreAllListed) {
  std::set<std::string> listed, passed;
  for (const testing::KillPoint& point : testing::kill_points()) listed.insert(point.name);
  for (const auto& [name, count] : counts_) passed.insert(name);
  EXPECT_EQ(listed, passed);
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

}  // namespace
}  // namespace headrace

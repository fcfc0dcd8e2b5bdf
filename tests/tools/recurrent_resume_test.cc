// What the lanes of a recurrent model carry survives with the run: stopped, or saved and restored, between
// two windows of a lane, it goes on as if nothing had happened. (tests/tools/crash_test.cc kills it.)
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <string>
#include <vector>

#include "build_paths.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using testing::Process;
using testing::ProcessResult;
using testing::ToolRun;

// Three lanes of 20 windows: the steps are an epoch and a half.
constexpr uint64_t kSteps = 30;
constexpr size_t kTextBytes = 3 * 20 * 32 + 1;

class RecurrentResume : public ::testing::TestWithParam<std::string> {
 protected:
  RecurrentResume() {
    const ProcessResult whole = tool_.train("whole", kSteps, options_);
    EXPECT_EQ(whole.exit_status, 0) << whole.err;
    digest_ = tool_.digest("whole");
    metrics_ = tool_.metrics("whole");
    EXPECT_EQ(metrics_.size(), kSteps);
  }
  void expect_whole(const std::string& run, const std::string& what) const {
    EXPECT_EQ(tool_.digest(run), digest_) << what;
    EXPECT_EQ(tool_.metrics(run), metrics_) << what;
  }

  ToolRun tool_{
      HEADRACE_BINARY,
      R"({"model_type": ")" + GetParam() + R"(", "embedding_size": 40, "hidden_size": 150, "num_layers": 2})",
      kTextBytes};
  std::vector<std::string> options_{"--seq",     "32",    "--batch",      "3",       "--lr",   "0.003",
                                    "--memory",  "40MiB", "--block-size", "64KiB",   "--seed", "3",
                                    "--threads", "2",     "--schedule",   "constant"};
  std::string digest_;
  std::vector<std::string> metrics_;
};

TEST_P(RecurrentResume, AfterOrderlyStopsWhereverTheseAre) {
  Process process(HEADRACE_BINARY, {.arguments = tool_.train_arguments("stopped", kSteps, options_),
                                    .directory = tool_.directory()});
  ASSERT_TRUE(process.wait_for_text("\nstep 7/", std::chrono::seconds(60)));
  process.send(SIGTERM);
  const ProcessResult stopped = process.finish();
  ASSERT_EQ(stopped.exit_status, 0) << stopped.err;
  EXPECT_GE(tool_.metrics("stopped").size(), 7U);
  ASSERT_EQ(tool_.train("stopped", kSteps, options_).exit_status, 0);
  expect_whole("stopped", "a signal");

  for (const uint64_t steps : {uint64_t{1}, uint64_t{13}, uint64_t{20}, kSteps})
    ASSERT_EQ(tool_.train("by parts", steps, options_).exit_status, 0);
  expect_whole("by parts", "--steps");
}

TEST_P(RecurrentResume, FromACheckpointWithTheStateInIt) {
  std::vector<std::string> saving = options_;
  saving.insert(saving.end(), {"--checkpoint-every", "9"});
  ASSERT_EQ(tool_.train("saved", 11, saving).exit_status, 0);
  ASSERT_EQ(tool_.run({"checkpoint", "saved"}).exit_status, 0);
  for (const char* const step : {"000009", "000011"}) {
    const std::string name = std::string("restored") + step;
    const ProcessResult restored =
        tool_.run({"restore", std::string("saved/checkpoints/step-") + step, name});
    ASSERT_EQ(restored.exit_status, 0) << restored.err;
    const ProcessResult trained =
        tool_.run({"train", name, "--data", "text", "--steps", std::to_string(kSteps)});
    ASSERT_EQ(trained.exit_status, 0) << trained.err;
    EXPECT_EQ(tool_.digest(name), digest_) << step;
  }
}

INSTANTIATE_TEST_SUITE_P(Cells, RecurrentResume, ::testing::Values("lstm", "gru"),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace headrace

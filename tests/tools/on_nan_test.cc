// A training that diverges: it stops before the step that is not finite counts, or goes on without updates.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "build_paths.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::ToolRun;

constexpr uint64_t kSteps = 12;

TEST(DivergingRun, StopsBeforeTheStepCountsAndCanGoOnWithoutItsUpdates) {
  const ToolRun tool(
      HEADRACE_BINARY,
      R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 64, "n_head": 2, "vocab_size": 256, "n_positions": 32})",
      5000);
  const std::vector<std::string> options{
      "--seq",          "32",  "--batch",  "2", "--lr",       "1e6",      "--clip",   "0",
      "--weight-decay", "1e6", "--warmup", "0", "--schedule", "constant", "--memory", "64MiB"};
  const ProcessResult stopped = tool.train("run", kSteps, options);
  EXPECT_EQ(stopped.exit_status, 1);
  const uint64_t committed = tool.metrics("run").size();
  EXPECT_GT(committed, 0u);
  EXPECT_LT(committed, kSteps);
  EXPECT_THAT(stopped.err, HasSubstr("error: step " + std::to_string(committed + 1) + " has the loss "));
  EXPECT_THAT(stopped.err, HasSubstr("step " + std::to_string(committed) + " is the last"));
  EXPECT_THAT(stopped.err, HasSubstr("--on-nan skip"));

  std::vector<std::string> skipping = options;
  skipping.insert(skipping.end(), {"--on-nan", "skip"});
  const ProcessResult resumed = tool.train("run", kSteps, skipping);
  EXPECT_EQ(resumed.exit_status, 0) << resumed.err;
  EXPECT_THAT(resumed.err, HasSubstr("its update is skipped"));
  EXPECT_THAT(resumed.out, HasSubstr("skipped updates       " + std::to_string(kSteps - committed)));
  ASSERT_EQ(tool.train("at once", kSteps, skipping).exit_status, 0);
  EXPECT_EQ(tool.digest("run"), tool.digest("at once"));
  EXPECT_EQ(tool.metrics("run"), tool.metrics("at once"));
  const std::string lines = testing::read_file(tool.path("run") + "/metrics.jsonl");
  EXPECT_THAT(lines, EndsWith("\"skipped\":true}\n"));
}

}  // namespace
}  // namespace headrace

// Pruning survives what a run survives: kill -9, a stop, a checkpoint and its restoration, a new training of
// the weights; and inspect shows it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdio>
#include <random>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Process;
using testing::ProcessResult;
using testing::ToolRun;

constexpr uint64_t kSteps = 12;
const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 96, "n_head": 2, "vocab_size": 300, "n_positions": 64})";

class PruningTraining : public ::testing::Test {
 protected:
  static std::vector<std::string> options() {
    return {"--seq",       "32",       "--batch",          "2",    "--memory",      "40MiB",
            "--schedule",  "constant", "--prune-sparsity", "0.75", "--prune-begin", "2",
            "--prune-end", "10",       "--prune-every",    "2"};
  }
  void train(const std::string& run, uint64_t steps, std::vector<std::string> more = {}) const {
    const std::vector<std::string> base = options();
    more.insert(more.begin(), base.begin(), base.end());
    const ProcessResult result = tool_.train(run, steps, more);
    ASSERT_EQ(result.exit_status, 0) << result.err;
  }
  // Share of the pruned weights by tensor.
  std::map<std::string, double> pruned(const std::string& path) const {
    const ProcessResult result = tool_.run({"inspect", path, "--stats", "--json"});
    EXPECT_EQ(result.exit_status, 0) << result.err;
    std::map<std::string, double> shares;
    const auto json = nlohmann::json::parse(result.out);
    for (const auto& tensor : json["statistics"]) {
      if (tensor["pruned"] == 0) continue;
      EXPECT_EQ(tensor["pruned"], tensor["zeros"]);
      shares[tensor["tensor"]] = tensor["sparsity"];
    }
    return shares;
  }

  ToolRun tool_{HEADRACE_BINARY, kConfig, 20000};
};

TEST_F(PruningTraining, EndsTheSameKilledAndStopped) {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  train("whole", kSteps);
  const std::string digest = tool_.digest("whole");
  for (const int signal : {SIGKILL, SIGTERM}) {
    const std::string run = "ended by signal " + std::to_string(signal);
    for (int i = 0; i < 3; i++) {
      Process process(HEADRACE_BINARY, {.arguments = tool_.train_arguments(run, kSteps, options()),
                                        .directory = tool_.directory()});
      const uint64_t step = 2 + uint64_t(i) * 3 + random() % 3;  // amid the pruning
      if (process.wait_for_text("\nstep " + std::to_string(step) + "/", std::chrono::seconds(60)))
        process.send(signal);
      process.finish();
    }
    train(run, kSteps);
    EXPECT_EQ(tool_.digest(run), digest) << run;
    EXPECT_EQ(tool_.metrics(run), tool_.metrics("whole")) << run;
  }
}

TEST_F(PruningTraining, GoesOnFromACheckpointAndItsWeightsKeepTheirMasks) {
  train("whole", kSteps, {"--checkpoint-every", "5"});
  const std::string checkpoint = "whole/checkpoints/step-000005";
  ASSERT_EQ(tool_.run({"restore", checkpoint, "restored", "--block-size", "64KiB"}).exit_status, 0);
  EXPECT_EQ(pruned("restored"), pruned(checkpoint));
  train("restored", kSteps);
  EXPECT_EQ(tool_.digest("restored"), tool_.digest("whole"));

  ASSERT_EQ(tool_.run({"checkpoint", "whole", "--weights-only", "--output", "weights"}).exit_status, 0);
  ASSERT_EQ(tool_
                .run({"restore", "weights", "fresh", "--optimizer", "sgd", "--prune-sparsity", "0.9",
                      "--prune-begin", "3", "--prune-end", "0"})
                .exit_status,
            0);
  for (const auto& [tensor, share] : pruned("fresh")) EXPECT_EQ(share, 0.75) << tensor;
  ASSERT_EQ(tool_.run({"train", "fresh", "--steps", "2", "--memory", "40MiB"}).exit_status, 0);
  for (const auto& [tensor, share] : pruned("fresh")) EXPECT_EQ(share, 0.75) << tensor;
  ASSERT_EQ(tool_.run({"train", "fresh", "--steps", "3", "--memory", "40MiB"}).exit_status, 0);
  for (const auto& [tensor, share] : pruned("fresh")) EXPECT_NEAR(share, 0.9, 1e-4) << tensor;
}

TEST_F(PruningTraining, IsSeenByInspectAndInTheMetrics) {
  train("run", 4);
  EXPECT_THAT(tool_.run({"inspect", "run"}).out,
              HasSubstr("pruning: to a sparsity of 0.75 at step 10; 0.4336 by now\n"));
  train("run", kSteps);
  const std::map<std::string, double> shares = pruned("run");
  EXPECT_EQ(shares.size(), 8u);
  for (const auto& [tensor, share] : shares) EXPECT_EQ(share, 0.75) << tensor;
  EXPECT_THAT(tool_.run({"inspect", "run", "--stats"}).out, HasSubstr("(75.00%) of 8 tensors\n"));
  const std::string lines = testing::read_file(tool_.path("run") + "/metrics.jsonl");
  EXPECT_THAT(lines, HasSubstr(R"(,"sparsity":0.75})"));

  ASSERT_EQ(tool_.train("dense", 2, {"--seq", "32", "--batch", "2", "--memory", "40MiB"}).exit_status, 0);
  EXPECT_THAT(tool_.run({"inspect", "dense"}).out, Not(HasSubstr("pruning")));
  EXPECT_THAT(tool_.run({"inspect", "dense", "--stats"}).out, Not(HasSubstr("pruned:")));
  EXPECT_THAT(testing::read_file(tool_.path("dense") + "/metrics.jsonl"), Not(HasSubstr("sparsity")));
  EXPECT_EQ(tool_.train("wrong", 4, {"--prune-every", "3"}).exit_status, 2);
  EXPECT_EQ(tool_.train("wrong", 4, {"--prune-sparsity", "1"}).exit_status, 2);
}

}  // namespace
}  // namespace headrace

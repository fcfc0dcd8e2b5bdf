// kill -9 at random moments of a run whose queues are full: every resume goes on from the last committed
// step, and the end is the end of a run that nobody touched.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "build_paths.h"
#include "tests/support/npy_writer.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using testing::Process;
using testing::ProcessResult;
using testing::ToolRun;

constexpr uint64_t kSteps = 30;
const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 3, "n_embd": 192, "n_head": 3, "vocab_size": 600, "n_positions": 64})";

// The number behind the last `text` in `output`; 0 where there is none.
uint64_t number_after(const std::string& output, const std::string& text) {
  const size_t at = output.rfind(text);
  return at == std::string::npos ? 0 : std::strtoull(output.c_str() + at + text.size(), nullptr, 10);
}

// The last step that the program reported, which it does once the step is committed.
uint64_t last_reported(const ProcessResult& result) { return number_after(result.err, "\nstep "); }

// A family of models: larger than the budget's cache, so that blocks come and go all the time.
struct Family {
  const char* config;
  std::vector<std::string> options;
  const char* data;
  void (*write_data)(const std::string& path);  // null: the text that is there
};

const Family kGpt2{kConfig, {"--seq", "48", "--batch", "3", "--memory", "36MiB"}, "text", nullptr};
const Family kGpt2Of8Bits{kConfig,
                          {"--seq", "48", "--batch", "3", "--memory", "36MiB", "--optimizer", "adamw8bit"},
                          "text",
                          nullptr};

const Family kLstm{R"({"model_type": "lstm", "embedding_size": 128, "hidden_size": 256, "num_layers": 2})",
                   {"--seq", "24", "--batch", "3", "--memory", "32MiB"},
                   "text",
                   nullptr};

void write_table(const std::string& path) {
  std::string table;
  for (uint64_t row = 0; row < 500; row++) {
    for (uint64_t column = 0; column < 60; column++)
      table += std::to_string((row + 1) * (column + 3) * 7919 % 1009) + ",";
    table += std::to_string(row * 7919 % 1009 % 5) + "\n";
  }
  testing::write_file(path, table);
}

const Family kMlp{
    R"({"model_type": "mlp", "hidden": [900, 900], "norm": "batch", "dropout": 0.2, "loss": "cross_entropy"})",
    {"--batch", "96", "--lr", "0.0001", "--memory", "32MiB"},
    "table.csv",
    write_table};

void write_graph(const std::string& path) {
  constexpr uint64_t kNodes = 1500, kColumns = 200;
  std::vector<float> features(kNodes * kColumns);
  for (uint64_t i = 0; i < features.size(); i++) features[i] = float(i * 7919 % 1009) / 1009;
  std::vector<int32_t> labels(kNodes);
  std::string edges;
  for (uint64_t i = 0; i < kNodes; i++) {
    labels[i] = int32_t(i * 31 % 97 % 4);
    edges += std::to_string(i) + " " + std::to_string(i * i % kNodes) + "\n";
  }
  std::filesystem::create_directory(path);
  testing::write_file(path + "/features.npy", testing::npy_array<float>({kNodes, kColumns}, features));
  testing::write_file(path + "/labels.npy", testing::npy_array<int32_t>({kNodes}, labels));
  testing::write_file(path + "/edges.txt", edges);
}

const Family kGcn{
    R"({"model_type": "gcn", "hidden": [400, 400]})", {"--memory", "33MiB"}, "graph", write_graph};

struct KilledRunOptions {
  const Family* family;
  const char* clip;
  const char* commit_every;
  int kills;
};

void PrintTo(const KilledRunOptions& options, std::ostream* out) {
  *out << options.family->config << " --clip " << options.clip << " --commit-every " << options.commit_every;
}

class KilledRuns : public ::testing::TestWithParam<KilledRunOptions> {};

// HEADRACE_KILLS: so many for each of the options in place of the few of the suite.
int kills_wanted(const KilledRunOptions& options) {
  const char* wanted = std::getenv("HEADRACE_KILLS");
  return wanted == nullptr ? options.kills : std::atoi(wanted);
}

TEST_P(KilledRuns, EndAsIfNobodyHadKilledThem) {
  const uint32_t seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  const Family& family = *GetParam().family;
  ToolRun tool(HEADRACE_BINARY, family.config, 40000);
  tool.use_data(family.data);
  if (family.write_data != nullptr) family.write_data(tool.path(family.data));
  std::vector<std::string> options{"--clip",     GetParam().clip, "--seed",       "7",
                                   "--schedule", "constant",      "--block-size", "1MiB"};
  options.insert(options.end(), {"--commit-every", GetParam().commit_every});
  options.insert(options.end(), family.options.begin(), family.options.end());
  const ProcessResult whole = tool.train("whole", kSteps, options);
  ASSERT_EQ(whole.exit_status, 0) << whole.err;
  const std::string digest = tool.digest("whole");
  const auto lines = tool.metrics("whole");
  ASSERT_EQ(lines.size(), kSteps);

  int kills = 0, runs = 0, mid_creation = 0;
  for (const int wanted = kills_wanted(GetParam()); kills < wanted; runs++) {
    const std::string name = "killed" + std::to_string(runs);
    uint64_t committed = 0;
    for (;;) {
      Process process(HEADRACE_BINARY, {.arguments = tool.train_arguments(name, kSteps, options),
                                        .directory = tool.directory()});
      const auto moment = std::chrono::milliseconds(random() % uint64_t(whole.seconds * 700));
      if (!process.wait_for(moment)) process.send(SIGKILL);
      const ProcessResult result = process.finish();
      const bool ended = result.signal == 0;  // a signal that comes while the process ends changes nothing
      const uint64_t resumed = number_after(result.err, "resuming at step ");
      if (resumed != 0 || committed != 0) {
        ASSERT_TRUE(resumed >= committed || result.err.find("resuming") == std::string::npos)
            << "step " << committed << " was reported as committed, then: " << result.err;
      }
      committed = std::max(committed, last_reported(result));
      if (ended) {
        ASSERT_EQ(result.exit_status, 0) << result.err;
        break;
      }
      ASSERT_EQ(result.signal, SIGKILL);
      kills++;
      mid_creation += committed == 0;
    }
    EXPECT_EQ(tool.digest(name), digest) << "run " << runs;
    EXPECT_EQ(tool.metrics(name), lines) << "run " << runs;
    std::filesystem::remove_all(tool.path(name));
  }
  std::printf("%d kills in %d runs, %d before a first step was committed\n", kills, runs, mid_creation);
}

INSTANTIATE_TEST_SUITE_P(
    Options, KilledRuns,
    ::testing::Values(KilledRunOptions{&kGpt2, "0.5", "1", 20}, KilledRunOptions{&kGpt2, "0", "1", 20},
                      KilledRunOptions{&kGpt2, "0.5", "3", 10},
                      KilledRunOptions{&kGpt2Of8Bits, "0.5", "1", 4}, KilledRunOptions{&kMlp, "0", "1", 8},
                      KilledRunOptions{&kMlp, "0.5", "2", 4}, KilledRunOptions{&kGcn, "0", "1", 6},
                      KilledRunOptions{&kGcn, "0.5", "2", 3}, KilledRunOptions{&kLstm, "0", "1", 6},
                      KilledRunOptions{&kLstm, "0.5", "2", 3}));

TEST(KilledRun, SaysWhichStepWasInFlight) {
  const ToolRun tool(HEADRACE_BINARY, kConfig, 40000);
  const std::vector<std::string> options{"--seq", "48", "--batch", "3", "--memory", "64MiB"};
  Process process(HEADRACE_BINARY,
                  {.arguments = tool.train_arguments("run", 100000, options), .directory = tool.directory()});
  ASSERT_TRUE(process.wait_for_text("\nstep 3/", std::chrono::seconds(60)));
  process.send(SIGKILL);
  process.finish();
  const auto committed = tool.metrics("run").size();
  const ProcessResult resumed = tool.train("run", committed + 2);
  ASSERT_EQ(resumed.exit_status, 0) << resumed.err;
  const uint64_t step = number_after(resumed.err, "resuming at step ");
  EXPECT_GE(step, committed);
  EXPECT_THAT(resumed.err, HasSubstr("resuming at step " + std::to_string(step) + "; step " +
                                     std::to_string(step + 1) + " was in flight\n"));
  const ProcessResult after = tool.train("run", committed + 3);
  EXPECT_THAT(after.err, HasSubstr("resuming at step " + std::to_string(committed + 2) + "\n"))
      << "a run that came to its end leaves nothing in flight";
}

// A kill loses at most the steps since the last commit, and metrics.jsonl has none of them.
TEST(KilledRun, LosesAtMostTheStepsSinceTheLastCommit) {
  const ToolRun tool(HEADRACE_BINARY, kConfig, 40000);
  const std::vector<std::string> options{"--seq",    "48",    "--batch",        "3", "--schedule", "constant",
                                         "--memory", "36MiB", "--commit-every", "4"};
  ASSERT_EQ(tool.train("whole", kSteps, options).exit_status, 0);
  std::vector<std::string> every_step = options;
  every_step.back() = "1";
  ASSERT_EQ(tool.train("every step", kSteps, every_step).exit_status, 0);
  EXPECT_EQ(tool.digest("whole"), tool.digest("every step"));
  EXPECT_EQ(tool.metrics("whole"), tool.metrics("every step"));

  Process process(HEADRACE_BINARY,
                  {.arguments = tool.train_arguments("run", kSteps, options), .directory = tool.directory()});
  ASSERT_TRUE(process.wait_for_text("\nstep 8/", std::chrono::seconds(60)));
  process.send(SIGKILL);
  const uint64_t reported = last_reported(process.finish());
  EXPECT_EQ(reported % 4, 0u);
  EXPECT_EQ(tool.metrics("run").size() % 4, 0u);
  const ProcessResult resumed = tool.train("run", kSteps);
  ASSERT_EQ(resumed.exit_status, 0) << resumed.err;
  EXPECT_GE(number_after(resumed.err, "resuming at step "), reported);
  EXPECT_EQ(tool.digest("run"), tool.digest("whole"));
  EXPECT_EQ(tool.metrics("run"), tool.metrics("whole"));

  Process stopped(HEADRACE_BINARY, {.arguments = tool.train_arguments("stopped", kSteps, options),
                                    .directory = tool.directory()});
  ASSERT_TRUE(stopped.wait_for_text("\nstep 8/", std::chrono::seconds(60)));
  stopped.send(SIGTERM);
  EXPECT_EQ(stopped.finish().exit_status, 0);
  ASSERT_EQ(tool.train("stopped", kSteps).exit_status, 0);
  EXPECT_EQ(tool.digest("stopped"), tool.digest("whole"));
  EXPECT_EQ(tool.metrics("stopped"), tool.metrics("whole"));
}

TEST(StoppedRuns, EndAsIfNobodyHadStoppedThem) {
  const ToolRun tool(HEADRACE_BINARY, kConfig, 5000);  // an epoch is 34 steps: the stop falls within one
  const std::vector<std::string> options{"--seq",    "48",    "--batch",    "3",
                                         "--memory", "36MiB", "--schedule", "constant"};
  ASSERT_EQ(tool.train("whole", kSteps * 2, options).exit_status, 0);
  for (const int signal_number : {SIGTERM, SIGINT}) {
    const std::string name = "stopped" + std::to_string(signal_number);
    Process process(HEADRACE_BINARY, {.arguments = tool.train_arguments(name, kSteps * 2, options),
                                      .directory = tool.directory()});
    ASSERT_TRUE(process.wait_for_text("\nstep 9/", std::chrono::seconds(60)));
    process.send(signal_number);
    const ProcessResult stopped = process.finish();
    EXPECT_EQ(stopped.exit_status, 0) << stopped.err;
    EXPECT_LT(tool.metrics(name).size(), kSteps * 2);
    EXPECT_EQ(tool.metrics(name).size(), last_reported(stopped))
        << "each reported step is committed, and no other";
    const ProcessResult resumed = tool.train(name, kSteps * 2, options);
    ASSERT_EQ(resumed.exit_status, 0);
    EXPECT_THAT(resumed.err, HasSubstr("resuming at step " + std::to_string(last_reported(stopped)) + "\n"))
        << "nothing was in flight";
    EXPECT_EQ(tool.digest(name), tool.digest("whole"));
    EXPECT_EQ(tool.metrics(name), tool.metrics("whole"));
  }
}

TEST(StoppedRuns, AreNotTouchedByASecondTrainer) {
  const ToolRun tool(HEADRACE_BINARY, kConfig, 40000);
  Process first(HEADRACE_BINARY,
                {.arguments = tool.train_arguments("run", 100000, {"--seq", "48", "--memory", "64MiB"}),
                 .directory = tool.directory()});
  ASSERT_TRUE(first.wait_for_text("\nstep 2/", std::chrono::seconds(60)));
  const ProcessResult second = tool.train("run", 100000);
  EXPECT_EQ(second.exit_status, 3);
  EXPECT_THAT(second.err, HasSubstr("another headrace process"));
  first.send(SIGTERM);
  EXPECT_EQ(first.finish().exit_status, 0);
}

}  // namespace
}  // namespace headrace

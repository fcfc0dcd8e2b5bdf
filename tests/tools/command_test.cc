// The built program as a user meets it: exit statuses, streams, messages.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "build_paths.h"
#include "storage/block_io.h"
#include "storage/run_description.h"
#include "storage/store.h"
#include "tests/support/process.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::Process;
using testing::ProcessResult;
using ::testing::StartsWith;
using testing::ToolRun;

class CommandLine : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; text.size() < 20000; ++i)
      text += "line " + std::to_string(i * 7919 % 1000) + " of the text\n";
    testing::write_file(directory_ / "text", text);
    testing::write_file(directory_ / "config.json",
                        R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 256,
                            "n_positions": 32})");
  }
  ProcessResult headrace(const std::vector<std::string>& arguments) {
    return testing::run_headrace(HEADRACE_BINARY, arguments, directory_.path());
  }
  std::vector<std::string> train(const std::string& run, std::vector<std::string> more = {}) {
    std::vector<std::string> all{"train",    run,      "--model", "config.json", "--data", "text",
                                 "--memory", "512MiB", "--batch", "2",           "--seq",  "16"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::string digest(const std::string& run) { return headrace({"inspect", run, "--digest"}).out; }

  testing::TemporaryDirectory directory_;
};

TEST_F(CommandLine, PrintsHelpAndVersionToStandardOutput) {
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"--help"}, {"help"}, {"train", "--help"}, {"eval", "-h"}, {"--version"}}) {
    const ProcessResult result = headrace(arguments);
    EXPECT_EQ(result.exit_status, 0);
    EXPECT_THAT(result.out, HasSubstr("headrace"));
    EXPECT_EQ(result.err, "");
  }
}

TEST_F(CommandLine, ExitsWithTwoForWrongUsage) {
  for (const auto& [arguments, text] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{}, "no command was given"},
           {{"trian"}, "unknown command 'trian'; did you mean 'train'?"},
           {{"generate", "run"}, "unknown command 'generate'"},
           {{"--verbose"}, "unknown option '--verbose'"},
           {{"train"}, "no RUN was named"},
           {train("run", {"--setps", "3"}), "unknown option --setps; did you mean --steps?"},
           {train("run", {"--steps", "3", "--data", "none"}), "--data was given 2 times"},
           {{"train", "run", "--model", "gpt2", "--data", "none", "--steps", "3"},
            "No such file or directory"},
           {{"train", "run", "--model", "gpt2", "--data", ".", "--steps", "3"}, "is a directory"},
           {{"inspect", "run"}, "cannot look at run: No such file or directory"},
           {{"eval", "run", "--data", "text"}, "run holds no run"}}) {
    const ProcessResult result = headrace(arguments);
    EXPECT_EQ(result.exit_status, 2) << text;
    EXPECT_THAT(result.err, StartsWith("headrace: error: "));
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_EQ(result.out, "");
  }
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run"));
}

TEST_F(CommandLine, TrainsResumesEvaluatesAndInspects) {
  const ProcessResult first = headrace(train("run", {"--steps", "3"}));
  ASSERT_EQ(first.exit_status, 0) << first.err;
  EXPECT_THAT(first.out, HasSubstr("Trained to step 3 of 3."));
  EXPECT_THAT(first.err, HasSubstr("step 3/3"));
  const ProcessResult more =
      headrace({"train", "run", "--steps", "5", "--memory", "512MiB", "--json", "--quiet"});
  ASSERT_EQ(more.exit_status, 0) << more.err;
  EXPECT_EQ(more.err, "");
  std::istringstream lines(more.out);
  std::string line;
  std::vector<nlohmann::json> objects;
  while (std::getline(lines, line)) objects.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(objects.size(), 3u);
  EXPECT_EQ(objects[0]["step"], 4);
  EXPECT_EQ(objects[2]["last_step"], 5);

  const ProcessResult evaluated = headrace({"eval", "run", "--data", "text", "--memory", "512MiB"});
  EXPECT_EQ(evaluated.exit_status, 0) << evaluated.err;
  EXPECT_THAT(evaluated.out, StartsWith("step 5: loss "));
  const ProcessResult listed = headrace({"inspect", "run"});
  EXPECT_THAT(listed.out, HasSubstr("wte.weight"));
  EXPECT_EQ(digest("run").size(), 33u);
}

TEST_F(CommandLine, RefusesToContradictTheRun) {
  ASSERT_EQ(headrace(train("run", {"--steps", "2"})).exit_status, 0);
  const std::string before = digest("run");
  const ProcessResult result = headrace(train("run", {"--steps", "4", "--lr", "0.5"}));
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("--lr is 0.5, but the run run was made with 0.0006"));
  testing::write_file(directory_ / "text", "changed " + testing::read_file(directory_ / "text"));
  const ProcessResult changed = headrace({"train", "run", "--steps", "4", "--memory", "512MiB"});
  EXPECT_EQ(changed.exit_status, 2);
  EXPECT_THAT(changed.err, HasSubstr("is not the one that the run was made with"));
  EXPECT_EQ(digest("run"), before);
}

// The catalog holds the model and the options; what lies beside the run may move, change or be lost.
TEST_F(CommandLine, GoesOnWithoutTheFilesThatTheRunWasMadeFrom) {
  const ToolRun tool(HEADRACE_BINARY, R"({"model_type": "mlp", "hidden": [8], "loss": "mse"})", 10);
  testing::write_file(tool.path("data.csv"), "1,2,0\n3,4,1\n5,6,1\n7,8,0\n");
  const auto train = [&](uint64_t steps, std::vector<std::string> more) {
    more.insert(more.begin(),
                {"train", "run", "--steps", std::to_string(steps), "--memory", "64MiB", "--quiet"});
    return tool.run(more);
  };
  ASSERT_EQ(train(1, {"--model", "config.json", "--data", "data.csv", "--batch", "2"}).exit_status, 0);
  std::filesystem::rename(tool.path("config.json"), tool.path("moved.json"));
  ProcessResult result = train(2, {});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  result = train(3, {"--model", "moved.json"});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  testing::write_file(tool.path("other.json"), R"({"model_type": "mlp", "hidden": [9], "loss": "mse"})");
  result = train(4, {"--model", "other.json"});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("--model is other.json, which is not the run's model"));

  std::string config = testing::read_file(tool.path("run/config.toml"));
  const size_t batch = config.find("\nbatch = 2\n");
  ASSERT_NE(batch, config.npos);
  testing::write_file(tool.path("run/config.toml"), config.replace(batch, 11, "\nbatch = 3\n"));
  result = train(4, {});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("config.toml are not those that the run was made with"));
  std::filesystem::remove(tool.path("run/config.toml"));
  result = train(4, {});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("--data"));
  result = train(4, {"--data", "data.csv"});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_EQ(train(5, {}).exit_status, 0) << "config.toml is written again";
  ASSERT_EQ(tool.run({"train", "whole", "--steps", "5", "--model", "moved.json", "--data", "data.csv",
                      "--batch", "2", "--memory", "64MiB", "--quiet", "--schedule-steps", "1"})
                .exit_status,
            0);
  EXPECT_EQ(tool.digest("run"), tool.digest("whole"));
}

// A catalog whose checksums are right, and whose blocks are not what the optimizer works on.
TEST_F(CommandLine, RefusesARunWhoseTensorsAreNotItsModels) {
  ASSERT_EQ(headrace(train("run", {"--steps", "1", "--optimizer", "adamw8bit"})).exit_status, 0);
  const storage::RunDescription run = storage::describe_run(directory_ / "run");
  std::vector<storage::TensorSpec> tensors(run.layout.tensors().begin(), run.layout.tensors().end());
  for (storage::TensorSpec& tensor : tensors) tensor.planes.back().group = 512;
  const auto io = storage::make_block_io({});
  storage::Store::create(
      {directory_ / "other", {}, storage::Layout(std::move(tensors)), run.model_json, "{}"}, *io,
      [](const auto&, auto) { return 0; }, 1, nullptr);
  std::filesystem::copy(directory_ / "run/config.toml", directory_ / "other/config.toml");
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"train", "other", "--steps", "2", "--memory", "512MiB"}, {"eval", "other", "--data", "text"}}) {
    const ProcessResult result = headrace(arguments);
    EXPECT_EQ(result.exit_status, 4) << result.err;
    EXPECT_THAT(result.err, HasSubstr("the tensors in the catalog of other are not those of its model"));
  }
}

TEST_F(CommandLine, FinishesTheStepInFlightWhenToldToStop) {
  testing::ProcessOptions options;
  options.arguments = train("run", {"--steps", "1000000"});
  options.directory = directory_.path();
  Process process(HEADRACE_BINARY, options);
  ASSERT_TRUE(process.wait_for_text("step 2/", std::chrono::minutes(1)));
  process.send(SIGTERM);
  const ProcessResult result = process.finish(std::chrono::minutes(1));
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("Stopped at step"));
}

TEST_F(CommandLine, FailsWhenItsResultCannotBeWritten) {
  testing::ProcessOptions options;
  options.arguments = train("run", {"--steps", "2"});
  options.directory = directory_.path();
  options.standard_output = "/dev/full";
  const ProcessResult result = Process(HEADRACE_BINARY, options).finish();
  EXPECT_EQ(result.exit_status, 1);
  EXPECT_THAT(result.err, HasSubstr("cannot write to standard output: No space left on device"));
}

TEST_F(CommandLine, RefusesABudgetThatIsTooSmall) {
  const ProcessResult result =
      headrace({"train", "run", "--model", "gpt2", "--data", "text", "--steps", "2", "--memory", "1MiB"});
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_LT(result.seconds, 20);
  EXPECT_FALSE(std::filesystem::exists(directory_ / "run"));
}

}  // namespace
}  // namespace headrace

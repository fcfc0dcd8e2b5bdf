// What `headrace plan` says is what a training then does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>

#include "build_paths.h"
#include "storage/drive_profile.h"
#include "storage/text.h"
#include "tests/support/tool_run.h"

namespace headrace::tools {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ProcessResult;
using ::testing::StartsWith;
using testing::ToolRun;

constexpr const char* kModel =
    R"({"model_type": "gpt2", "n_layer": 4, "n_embd": 128, "n_head": 4, "vocab_size": 256, "n_positions": 256})";

class PlanTest : public ::testing::Test {
 protected:
  json plan(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), "plan");
    arguments.push_back("--json");
    const ProcessResult result = tool_.run(arguments);
    EXPECT_EQ(result.exit_status, 0) << result.err;
    return json::parse(result.out, nullptr, false);
  }
  json plan_model(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"--model", "config.json"};
    all.insert(all.end(), more.begin(), more.end());
    return plan(all);
  }
  ProcessResult text_plan(const std::vector<std::string>& more) const {
    std::vector<std::string> all{"plan", "--model", "config.json"};
    all.insert(all.end(), more.begin(), more.end());
    return tool_.run(all);
  }
  std::vector<json> metrics(const std::string& run) const {
    std::istringstream file(testing::read_file(tool_.path(run) + "/metrics.jsonl"));
    std::vector<json> lines;
    for (std::string line; std::getline(file, line);) lines.push_back(json::parse(line));
    return lines;
  }
  void write_profile(const std::string& directory, double read_rate, double write_rate) const {
    storage::DriveProfile profile = storage::describe_place(directory);
    profile.read = {read_rate, 1 << 20, 16, 0, 0};
    profile.write = {write_rate, 1 << 20, 16, 0, 0};
    storage::write_drive_profile(directory, profile);
  }

  ToolRun tool_{HEADRACE_BINARY, kModel, 50000};
};

TEST_F(PlanTest, PredictsTheBytesThatATrainingReports) {
  const std::vector<std::string> shape{"--batch", "2", "--seq", "32"};
  int run = 0;
  for (const std::vector<std::string>& variant : std::vector<std::vector<std::string>>{
           {"--memory", "30MiB"},
           {"--memory", "32MiB", "--clip", "0"},
           {"--memory", "33MiB", "--weights", "bf16"},
           {"--memory", "256MiB"},
           {"--memory", "35MiB", "--commit-every", "4"},
           {"--memory", "33MiB", "--commit-every", "3", "--clip", "0"},
           {"--memory", "31MiB", "--block-size", "256KiB", "--micro-batch", "1"}}) {
    std::vector<std::string> options = shape;
    options.insert(options.end(), variant.begin(), variant.end());
    const json drawn = plan_model(options);
    EXPECT_EQ(drawn["step"]["drawn_tokens"], true);
    std::vector<std::string> with_text = options;
    with_text.insert(with_text.end(), {"--data", "text"});
    const json planned = plan_model(with_text);
    EXPECT_EQ(planned["step"]["drawn_tokens"], false);

    const std::string name = "run" + std::to_string(run++);
    const json& first = planned["step"]["first_steps"];
    ASSERT_GE(first.size(), 10u);
    EXPECT_EQ(drawn["step"]["first_steps"], first);  // as the whole embedding is one block
    // One step more, as the last knows that none follows.
    const ProcessResult trained = tool_.train(name, first.size() + 1, options);
    ASSERT_EQ(trained.exit_status, 0) << trained.err;
    const std::vector<json> steps = metrics(name);
    ASSERT_EQ(steps.size(), first.size() + 1);
    for (const char* field : {"read_bytes", "written_bytes"}) {
      double sum = 0;
      for (size_t i = 0; i < first.size(); i++) {
        EXPECT_EQ(first[i][field], steps[i][field])
            << field << " of step " << i + 1 << " " << ::testing::PrintToString(variant);
        if (i >= 2) sum += steps[i][field].get<double>();
      }
      EXPECT_NEAR(planned["step"][field].get<double>(), sum / double(first.size() - 2), 2) << field;
    }
    EXPECT_EQ(planned["parameters"], 842496 + 128 * 128);
    EXPECT_GT(planned["step"]["flops"], 6.0 * 2 * 32 * 700e3);
  }
}

TEST_F(PlanTest, RefusesABudgetAsTrainingDoes) {
  const json planned = plan_model({"--memory", "64MiB"});
  const uint64_t least = planned["memory"]["least_bytes"];
  uint64_t parts = 0;
  for (const json& part : planned["memory"]["least_parts"]) parts += part["bytes"].get<uint64_t>();
  EXPECT_LE(parts, least);
  EXPECT_GT(parts + (1 << 20), least);

  const std::string too_small = exact_size(least - (1 << 20));
  const ProcessResult refused = text_plan({"--memory", too_small});
  EXPECT_EQ(refused.exit_status, 3);
  EXPECT_EQ(refused.out, "");
  EXPECT_THAT(refused.err, HasSubstr("needs at least " + exact_size(least)));
  const ProcessResult training = tool_.train("run", 1, {"--memory", too_small});
  EXPECT_EQ(training.exit_status, 3);
  EXPECT_EQ(training.err, refused.err);
  EXPECT_EQ(text_plan({"--memory", exact_size(least)}).exit_status, 0);
  EXPECT_EQ(tool_.train("run", 1, {"--memory", exact_size(least)}).exit_status, 0);
}

TEST_F(PlanTest, SaysWhichCommandWouldTellWhatIsNotKnown) {
  const ProcessResult result = text_plan({"--memory", "64MiB"});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("evenly drawn"));
  EXPECT_THAT(result.out, HasSubstr("headrace bench . would tell"));
  const json planned = plan_model({"--memory", "64MiB"});
  EXPECT_EQ(planned["step"]["bottleneck"], "unknown");
  EXPECT_TRUE(planned["step"]["seconds"].is_null());
  EXPECT_TRUE(planned["drives"][0]["profile"].is_null());
  EXPECT_GT(planned["flops_per_second"], 1e6);
}

TEST_F(PlanTest, NamesTheBottleneckAndWhatHidesTheDisk) {
  const std::vector<std::string> options{"--memory", "34MiB", "--batch", "2", "--seq", "16"};
  write_profile(tool_.directory(), 1e13, 1e13);
  const json fast = plan_model(options);
  EXPECT_EQ(fast["step"]["bottleneck"], "compute");
  EXPECT_EQ(fast["step"]["hiding_tokens"], 16);  // one sequence is enough
  EXPECT_GT(fast["step"]["seconds"], fast["step"]["compute_seconds"]);

  write_profile(tool_.directory(), 1e5, 1e13);
  const json slow_read = plan_model(options);
  EXPECT_EQ(slow_read["step"]["bottleneck"], "reading");
  EXPECT_NEAR(slow_read["step"]["disk_seconds"].get<double>(),
              slow_read["step"]["read_bytes"].get<double>() / 1e5, 1);
  write_profile(tool_.directory(), 1e13, 1e5);
  const json slow_write = plan_model(options);
  EXPECT_EQ(slow_write["step"]["bottleneck"], "writing");

  // A drive that needs some times as long as computing: more tokens hide it, and it is so.
  const double ratio = 4 * fast["step"]["compute_seconds"].get<double>();
  const double moved = fast["step"]["read_bytes"].get<double>() + fast["step"]["written_bytes"].get<double>();
  write_profile(tool_.directory(), moved / ratio, moved / ratio);
  const json some = plan_model({"--memory", "64MiB", "--batch", "2", "--seq", "16"});
  ASSERT_FALSE(some["step"]["hiding_tokens"].is_null());
  EXPECT_GE(some["step"]["hiding_tokens"], 32);
  EXPECT_EQ(some["step"]["hiding_tokens"].get<int>() % 16, 0);
}

TEST_F(PlanTest, SaysHowManyStepsADriveEndures) {
  const std::vector<std::string> options{"--memory", "34MiB", "--endurance", "1TB", "--steps", "100"};
  const json planned = plan_model(options);
  const double written = planned["step"]["written_bytes"];
  EXPECT_EQ(planned["endurance"]["bytes"], 1000000000000);
  EXPECT_EQ(planned["endurance"]["steps"], uint64_t(1e12 / written));
  EXPECT_THAT(text_plan(options).out, HasSubstr("1.0 TB a drive allow "));
}

TEST_F(PlanTest, SpreadsTheLoadOverDrives) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root mounts file systems";
  for (const char* name : {"a", "b"}) fs::create_directory(tool_.path(name));
  if (::mount("tmpfs", tool_.path("b").c_str(), "tmpfs", 0, "size=64m") != 0)
    GTEST_SKIP() << "mounting is refused here";
  const json planned =
      plan_model({"run", "--memory", "34MiB", "--shard-dir", "a", "--shard-dir", "b", "--endurance", "1TB"});
  ::umount(tool_.path("b").c_str());
  ASSERT_EQ(planned["drives"].size(), 2u);
  uint64_t needed = 0;
  for (const json& drive : planned["drives"]) {
    EXPECT_EQ(drive["share"], 0.5);
    needed += drive["needed_bytes"].get<uint64_t>();
  }
  EXPECT_GT(needed, 2 * planned["state_bytes"].get<uint64_t>());
  EXPECT_EQ(planned["endurance"]["steps"], uint64_t(2e12 / planned["step"]["written_bytes"].get<double>()));
}

TEST_F(PlanTest, KnowsAnExistingRunEvenWhileItTrainsAndWithoutItsText) {
  testing::ProcessOptions process;
  process.arguments =
      tool_.train_arguments("run", 1000000, {"--memory", "64MiB", "--batch", "2", "--seq", "32"});
  process.directory = tool_.directory();
  testing::Process training(tool_.binary(), process);
  ASSERT_TRUE(training.wait_for_text("step 2/", std::chrono::minutes(1)));
  const json live = plan({"run", "--memory", "64MiB"});
  EXPECT_EQ(live["exists"], true);
  EXPECT_GE(live["committed_step"], 1);
  training.send(SIGTERM);
  ASSERT_EQ(training.finish(std::chrono::minutes(1)).exit_status, 0);

  fs::remove(tool_.path("text"));
  fs::remove(tool_.path("config.json"));
  const ProcessResult result = tool_.run({"plan", "run", "--memory", "64MiB"});
  EXPECT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.out, StartsWith("run goes on after step "));
  EXPECT_THAT(result.out, HasSubstr("64 tokens, evenly drawn"));
  EXPECT_THAT(result.err, HasSubstr("the run's data cannot be used"));
  EXPECT_THAT(tool_.run({"plan", "run", "--memory", "64MiB", "--seq", "64"}).err,
              HasSubstr("but the run run was made with 32"));
}

TEST_F(PlanTest, CallsTheRowsOfAStepByTheirName) {
  testing::write_file(tool_.path("mlp.json"), R"({"model_type": "mlp", "features": 7, "outputs": 3})");
  const auto out = [&](const std::string& command, const std::string& model) {
    std::vector<std::string> arguments{command, "--model", model, "--memory", "64MiB"};
    if (command == "bench")
      arguments.insert(arguments.begin() + 1, {"--pattern", "train", "--steps", "1", "."});
    return tool_.run(arguments).out;
  };
  for (const char* command : {"plan", "bench"}) {
    EXPECT_THAT(out(command, "mlp.json"), HasSubstr("128 samples, evenly drawn"));
    EXPECT_THAT(out(command, "mlp.json"), HasSubstr("micro-batches of 128 samples"));
    EXPECT_THAT(out(command, "gcn"), HasSubstr("2708 nodes, evenly drawn"));
    EXPECT_THAT(out(command, "gcn"), Not(HasSubstr("tokens")));
  }
}

TEST_F(PlanTest, AdvisesWhatTheModelHas) {
  testing::write_file(tool_.path("mlp.json"), R"({"model_type": "mlp", "features": 7, "outputs": 3})");
  for (const auto& [model, advice] :
       std::vector<std::pair<std::string, std::string>>{{"gpt2", "or take a smaller --seq"},
                                                        {"lstm", "or take a smaller --seq"},
                                                        {"mlp.json", "or take a smaller --batch"},
                                                        {"gcn", "or take narrower layers (--hidden)"}}) {
    const ProcessResult refused = tool_.run({"plan", "--model", model, "--memory", "1MiB"});
    EXPECT_EQ(refused.exit_status, 3);
    EXPECT_THAT(refused.err, HasSubstr(" or more, " + advice)) << model;
  }
}

TEST_F(PlanTest, WritesNothing) {
  const auto files = [&] {
    size_t count = 0;
    for ([[maybe_unused]] const auto& entry : fs::recursive_directory_iterator(tool_.directory())) count++;
    return count;
  };
  const size_t before = files();
  EXPECT_EQ(text_plan({"run", "--memory", "64MiB"}).exit_status, 0);
  EXPECT_EQ(files(), before);
}

TEST_F(PlanTest, SaysWhatIsWrongWithItsInput) {
  testing::write_file(tool_.path("bad.json"), "{\"model_type\": \"gpt2\", \"n_layers\": 4}");
  for (const auto& [arguments, text] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"plan"}, "say it with --model M"},
           {{"plan", "--model", "gtp2"}, "gtp2"},
           {{"plan", "--model", "bad.json"}, "n_layer"},
           {{"plan", "--model", "gpt2", "--seq", "4096"}, "n_positions 1024"},
           {{"plan", "--model", "gpt2", "--memory", "lots"}, "'lots' is not a size"},
           {{"plan", "--model", "gpt2", "--endurance", "0"}, "--endurance"},
           {{"plan", "--model", "gpt2", "--endurance", "600 TBW"}, "what the drive's data sheet calls TBW"},
           {{"plan", "--model", "gpt2", "--endurence", "600TB"}, "did you mean --endurance?"},
           {{"plan", "--model", "gpt2", "--data", "none"}, "No such file or directory"},
           {{"plan", "--model", "gpt2", "--micro-batch", "9"}, "--micro-batch 9 is above --batch 4"},
           {{"plan", "--model", "gpt2", "--shard-dir", "none"}, "there is no directory none for a shard"},
           {{"plan", "a", "b"}, "unexpected argument"},
           {{"train", "run", "--model", "gpt2", "--endurance", "1TB"}, "unknown option --endurance"}}) {
    const ProcessResult result = tool_.run(arguments);
    EXPECT_EQ(result.exit_status, 2) << ::testing::PrintToString(arguments) << result.err;
    EXPECT_THAT(result.err, StartsWith("headrace: error: "));
    EXPECT_THAT(result.err, HasSubstr("what to do: "));
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_EQ(result.out, "");
  }
}

TEST_F(PlanTest, ExitsWithThreeWhereADriveIsTooFull) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root mounts file systems";
  const std::string small = tool_.path("small");
  ASSERT_EQ(::mkdir(small.c_str(), 0755), 0);
  if (::mount("tmpfs", small.c_str(), "tmpfs", 0, "size=4m") != 0) GTEST_SKIP() << "mounting is refused here";
  const ProcessResult result = text_plan({"small/run", "--memory", "64MiB"});
  const ProcessResult training = tool_.train("small/run", 1, {"--memory", "64MiB"});
  ::umount(small.c_str());
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.out, HasSubstr("TOO LITTLE"));
  EXPECT_THAT(result.err, HasSubstr("too little space in "));
  EXPECT_EQ(training.exit_status, 3);
}

}  // namespace
}  // namespace headrace::tools

// `checkpoint` and `restore` through the built program: a restored run is the run that was saved, whatever
// its blocks, shards and back end, and trains on with the same bits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_format.h"
#include "storage/checkpoint_reader.h"
#include "tests/support/small_disk.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using testing::DiskKind;
using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::SmallDisk;
using testing::ToolRun;

const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 128, "n_head": 2, "vocab_size": 300, "n_positions": 64})";

class CheckpointCommands : public ::testing::Test {
 protected:
  ProcessResult train(const std::string& run, uint64_t steps) const {
    return tool_.train(run, steps,
                       {"--seq", "32", "--batch", "2", "--memory", "64MiB", "--schedule", "constant"});
  }
  void expect_success(const ProcessResult& result) const { ASSERT_EQ(result.exit_status, 0) << result.err; }
  std::vector<std::string> metrics_after(const std::string& run, size_t steps) const {
    const std::vector<std::string> all = tool_.metrics(run);
    return {all.begin() + static_cast<ptrdiff_t>(all.size() - steps), all.end()};
  }

  ToolRun tool_{HEADRACE_BINARY, kConfig, 20000};
};

TEST_F(CheckpointCommands, ARestoredRunTrainsOnWithTheSameBits) {
  expect_success(train("run", 4));
  const std::string digest = tool_.digest("run");
  const ProcessResult saved = tool_.run({"checkpoint", "run", "--level", "3", "--json"});
  expect_success(saved);
  EXPECT_EQ(nlohmann::json::parse(saved.out).at("step"), 4);
  const std::string checkpoint = "run/checkpoints/step-000004";
  std::filesystem::create_directory(tool_.path("a"));
  std::filesystem::create_directory(tool_.path("b"));
  const std::vector<std::vector<std::string>> kinds{
      {},
      {"--block-size", "64KiB", "--io", "threads"},
      {"--shard-dir", "a", "--shard-dir", "b", "--threads", "1"}};
  for (const auto& kind : kinds) {
    const std::string name = "restored" + std::to_string(&kind - kinds.data());
    std::vector<std::string> arguments{"restore", checkpoint, name};
    arguments.insert(arguments.end(), kind.begin(), kind.end());
    expect_success(tool_.run(arguments));
    EXPECT_EQ(tool_.digest(name), digest) << name;
  }
  expect_success(train("run", 8));
  for (const char* name : {"restored0", "restored1", "restored2"}) {
    expect_success(tool_.run({"train", name, "--steps", "8", "--memory", "64MiB"}));
    EXPECT_EQ(tool_.digest(name), tool_.digest("run")) << name;
    EXPECT_EQ(tool_.metrics(name), metrics_after("run", 4)) << name;
  }
}

TEST_F(CheckpointCommands, WeightsAloneBeginAFreshTraining) {
  expect_success(train("run", 3));
  expect_success(tool_.run({"checkpoint", "run", "--weights-only"}));
  const ProcessResult restored = tool_.run({"restore", "run/checkpoints/step-000003-weights", "new"});
  expect_success(restored);
  EXPECT_THAT(restored.out, HasSubstr("the optimizer starts afresh"));
  expect_success(tool_.run({"checkpoint", "run"}));
  expect_success(tool_.run({"restore", "run/checkpoints/step-000003", "same", "--weights-only"}));
  EXPECT_EQ(tool_.digest("same"), tool_.digest("new"));
  expect_success(tool_.run({"train", "new", "--steps", "2", "--memory", "64MiB"}));
  EXPECT_EQ(tool_.metrics("new").size(), 2u);
}

TEST_F(CheckpointCommands, WeightsMayGoOnWithAnotherOptimizer) {
  expect_success(train("run", 2));
  expect_success(tool_.run({"checkpoint", "run"}));
  const std::string saved = "run/checkpoints/step-000002";
  const auto expect_weights_of = [&](const std::string& run, const std::string& other) {
    const auto json = nlohmann::json::parse(tool_.run({"inspect", run, "--diff", other, "--json"}).out);
    EXPECT_GT(json.at("compared"), 0);
    EXPECT_TRUE(json.at("shapes").empty());
    for (const auto& difference : json.at("differences")) EXPECT_NE(difference.at("field"), "") << difference;
  };
  expect_success(tool_.run({"restore", saved, "sgd", "--weights-only", "--optimizer", "sgd"}));
  expect_weights_of("sgd", "run");
  expect_success(tool_.run({"train", "sgd", "--steps", "2", "--memory", "64MiB", "--optimizer", "sgd"}));
  EXPECT_EQ(tool_.metrics("sgd").size(), 2u);
  expect_success(tool_.run({"checkpoint", "sgd"}));
  expect_success(tool_.run({"restore", "sgd/checkpoints/step-000002", "back", "--weights-only", "--optimizer",
                            "lion", "--lr", "1e-3"}));
  expect_weights_of("back", "sgd");
  expect_success(tool_.run({"train", "back", "--steps", "1", "--memory", "64MiB", "--lr", "1e-3"}));
  const ProcessResult goes_on = tool_.run({"restore", saved, "new", "--optimizer", "sgd"});
  EXPECT_EQ(goes_on.exit_status, 2);
  EXPECT_THAT(goes_on.err, HasSubstr("--weights-only"));
}

TEST_F(CheckpointCommands, MomentsOf8BitsComeBackAsTheyWere) {
  const std::vector<std::string> options{"--seq", "32",         "--batch",  "2",           "--memory",
                                         "64MiB", "--schedule", "constant", "--optimizer", "adamw8bit"};
  expect_success(tool_.train("run", 3, options));
  expect_success(tool_.run({"checkpoint", "run"}));
  const std::string saved = "run/checkpoints/step-000003", digest = tool_.digest("run");
  EXPECT_EQ(tool_.digest(saved), digest);
  std::filesystem::create_directory(tool_.path("a"));
  std::filesystem::create_directory(tool_.path("b"));
  expect_success(
      tool_.run({"restore", saved, "back", "--block-size", "64KiB", "--shard-dir", "a", "--shard-dir", "b"}));
  EXPECT_EQ(tool_.digest("back"), digest);
  const auto same = nlohmann::json::parse(tool_.run({"inspect", "back", "--diff", saved, "--json"}).out);
  EXPECT_TRUE(same.at("equal").get<bool>()) << same;
  // On it goes; to float32 moments there is no way but from zero.
  expect_success(tool_.train("run", 6, options));
  expect_success(tool_.run({"train", "back", "--steps", "6", "--memory", "64MiB"}));
  EXPECT_EQ(tool_.digest("back"), tool_.digest("run"));
  EXPECT_EQ(tool_.metrics("back"), metrics_after("run", 3));
  expect_success(tool_.run({"restore", saved, "float", "--weights-only", "--optimizer", "adamw"}));
  const auto other = nlohmann::json::parse(tool_.run({"inspect", "float", "--diff", saved, "--json"}).out);
  for (const auto& difference : other.at("differences")) EXPECT_NE(difference.at("field"), "") << difference;
  expect_success(tool_.run({"train", "float", "--steps", "2", "--memory", "64MiB"}));
  const ProcessResult goes_on = tool_.run({"restore", saved, "new", "--optimizer", "adamw"});
  EXPECT_EQ(goes_on.exit_status, 2);
  EXPECT_THAT(goes_on.err, HasSubstr("--weights-only"));
}

TEST_F(CheckpointCommands, AModelWhoseFileIsGoneComesWithTheCheckpoint) {
  expect_success(train("run", 2));
  expect_success(tool_.run({"checkpoint", "run", "--output", "saved"}));
  std::filesystem::remove(tool_.path("config.json"));
  expect_success(tool_.run({"restore", "saved", "new"}));
  expect_success(tool_.run({"train", "new", "--steps", "3", "--memory", "64MiB"}));
  EXPECT_EQ(tool_.metrics("new").size(), 1u);
}

TEST_F(CheckpointCommands, SayWhatIsWrong) {
  expect_success(train("run", 1));
  expect_success(tool_.run({"checkpoint", "run"}));
  const std::string checkpoint = "run/checkpoints/step-000001";
  const auto refused = [&](const std::vector<std::string>& arguments, int status, const std::string& text) {
    const ProcessResult result = tool_.run(arguments);
    EXPECT_EQ(result.exit_status, status) << arguments[0];
    EXPECT_THAT(result.err, HasSubstr(text));
  };
  refused({"checkpoint", "run"}, 2, "is there already");
  refused({"checkpoint", "nothing"}, 2, "holds no run");
  refused({"checkpoint", "run", "--level", "20"}, 2, "--level");
  refused({"checkpoint", "run", "--wieghts-only"}, 2, "did you mean --weights-only");
  refused({"restore", checkpoint}, 2, "no RUN was named");
  refused({"restore", checkpoint, "run"}, 2, "already holds a run");
  refused({"restore", "run", "new"}, 2, "holds no checkpoint");
  refused({"restore", "text", "new"}, 2, "is a file");
  refused({"restore", checkpoint, "new", "--block-size", "1"}, 2, "--block-size");
  const std::string pack = tool_.path(checkpoint + "/pack-00000");
  std::filesystem::resize_file(pack, std::filesystem::file_size(pack) - 1);
  refused({"restore", checkpoint, "new"}, 4, "pack-00000");
  EXPECT_FALSE(std::filesystem::exists(tool_.path("new")));
}

TEST_F(CheckpointCommands, RefuseWhatTheyWouldOverwriteOrCannotKnow) {
  expect_success(train("run", 1));
  expect_success(tool_.run({"checkpoint", "run", "--output", "saved"}));
  const auto refused = [&](const std::vector<std::string>& arguments, int status, const std::string& text) {
    const ProcessResult result = tool_.run(arguments);
    EXPECT_EQ(result.exit_status, status) << arguments[0];
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_THAT(result.err, HasSubstr("what to do: "));
  };
  std::filesystem::create_directory(tool_.path("full"));
  testing::write_file(tool_.path("full/mine"), "mine");
  refused({"restore", "saved", "full"}, 2, "is not empty");
  refused({"restore", "saved", "text"}, 3, "is there and is not a directory");
  refused({"checkpoint", "run", "--output", "full"}, 2, "is there already");
  refused({"checkpoint", "run", "--output", "text"}, 2, "is there already");
  EXPECT_EQ(testing::read_file(tool_.path("full/mine")), "mine");
  testing::write_file(tool_.path("model.pt"), "\x80\x04\x95");
  refused({"restore", "model.pt", "new"}, 2, "is a pickle of PyTorch's");

  const std::string manifest = tool_.path("saved/manifest.json"), whole = testing::read_file(manifest);
  testing::write_file(manifest, "{\"format\": \"headrace checkpoint 2\"}");
  refused({"restore", "saved", "new"}, 2, "has the format 'headrace checkpoint 2'");
  testing::write_file(manifest, whole.substr(0, whole.size() / 2));
  refused({"restore", "saved", "new"}, 4, "manifest.json");
  // Of a model whose tensors are others.
  storage::CheckpointManifest other = storage::parse_manifest(whole, manifest);
  std::string& model = other.model_json;
  model.replace(model.find("\"n_layer\":2"), 11, "\"n_layer\":1");
  testing::write_file(manifest, storage::encode_manifest(other));
  refused({"restore", "saved", "new"}, 2, "is of another model: the model has no tensor 'h.1.");
  EXPECT_FALSE(std::filesystem::exists(tool_.path("new")));
}

TEST_F(CheckpointCommands, LeaveNothingOnADiskThatIsFull) {
  expect_success(train("run", 2));
  expect_success(tool_.run({"checkpoint", "run", "--output", "saved"}));
  const std::string digest = tool_.digest("run");
  std::filesystem::create_directory(tool_.path("disk"));
  const SmallDisk disk(tool_.path("disk"), DiskKind::kTmpfs, uint64_t{1} << 20);
  if (!disk.why_not().empty()) GTEST_SKIP() << disk.why_not();
  // Of another step, so that nothing can be copied.
  expect_success(train("run", 3));
  const ProcessResult saved = tool_.run({"checkpoint", "run", "--output", "disk/saved"});
  EXPECT_EQ(saved.exit_status, 1);
  EXPECT_THAT(saved.err, HasSubstr("No space left on device"));
  EXPECT_TRUE(std::filesystem::is_empty(tool_.path("disk")));
  const ProcessResult restored = tool_.run({"restore", "saved", "disk/run"});
  EXPECT_EQ(restored.exit_status, 3);
  EXPECT_THAT(restored.err, HasSubstr("disk"));
  EXPECT_TRUE(std::filesystem::is_empty(tool_.path("disk")));
  expect_success(tool_.run({"restore", "saved", "elsewhere"}));
  EXPECT_EQ(tool_.digest("elsewhere"), digest);
}

}  // namespace
}  // namespace headrace

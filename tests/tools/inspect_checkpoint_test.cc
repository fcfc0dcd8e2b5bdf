// headrace inspect as a user meets it, on checkpoints.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "build_paths.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_format.h"
#include "storage/file.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::read_file;
using testing::ToolRun;
using testing::write_file;

constexpr const char* kConfig =
    R"({"model_type":"gpt2","n_layer":2,"n_embd":32,"n_head":2,"vocab_size":256,"n_positions":32})";
constexpr const char* kSaved = "run/checkpoints/step-000003";

class InspectCheckpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(tool_.train("run", 3, {"--batch", "2", "--seq", "16", "--quiet"}).exit_status, 0);
    ASSERT_EQ(tool_.run({"checkpoint", "run"}).exit_status, 0);
  }
  nlohmann::json json(std::vector<std::string> arguments, int exit_status = 0) {
    arguments.insert(arguments.begin(), "inspect");
    arguments.emplace_back("--json");
    const ProcessResult result = tool_.run(arguments);
    EXPECT_EQ(result.exit_status, exit_status) << result.err;
    return nlohmann::json::parse(result.out);
  }
  void expect_refused(const std::vector<std::string>& arguments, int status, const std::string& text) {
    std::vector<std::string> all = arguments;
    all.insert(all.begin(), "inspect");
    const ProcessResult result = tool_.run(all);
    EXPECT_EQ(result.exit_status, status) << result.err;
    EXPECT_THAT(result.err, HasSubstr(text));
    EXPECT_THAT(result.err, HasSubstr("what to do: "));
    EXPECT_EQ(result.out, "");
  }

  ToolRun tool_{HEADRACE_BINARY, kConfig, 20000};
};

TEST_F(InspectCheckpoint, ListsWhatItHoldsAndWhatThatTakes) {
  const nlohmann::json list = json({kSaved, "--tensors", "h.*.attn.*"}), of_run = json({"run"});
  EXPECT_EQ(list["kind"], "checkpoint");
  EXPECT_EQ(list["step"], 3);
  EXPECT_EQ(list["model"], of_run["model"]);
  EXPECT_EQ(list["tensors"].size(), 8u);
  EXPECT_EQ(list["tensors"][0]["name"], "h.0.attn.c_attn.weight");
  EXPECT_EQ(list["tensors"][0]["shape"], (std::vector<int>{96, 32}));
  EXPECT_EQ(list["tensors"][0]["type"], "F32");
  EXPECT_EQ(list["tensors"][0]["bytes"], 96 * 32 * 12);
  EXPECT_LT(list["tensors"][0]["stored_bytes"], 96 * 32 * 12);
  EXPECT_GT(list["tensors"][0]["stored_bytes"], 96 * 32 * 6);
  EXPECT_EQ(json({kSaved})["bytes"], of_run["bytes"]);
  const std::string text = tool_.run({"inspect", kSaved}).out;
  EXPECT_THAT(text, HasSubstr("run/checkpoints/step-000003: checkpoint, step 3, gpt2, "));
  EXPECT_THAT(text, HasSubstr(" of parameters and optimizer state, "));
  EXPECT_THAT(text, HasSubstr(" on disk ("));
  ASSERT_EQ(tool_.run({"checkpoint", "run", "--weights-only"}).exit_status, 0);
  EXPECT_THAT(tool_.run({"inspect", std::string(kSaved) + "-weights"}).out, HasSubstr(" of parameters, "));
}

TEST_F(InspectCheckpoint, KnowsWhetherItIsTheRunAtItsStep) {
  EXPECT_EQ(tool_.digest(kSaved), tool_.digest("run"));
  EXPECT_EQ(json({kSaved, "--diff", "run"})["equal"], true);
  EXPECT_EQ(json({"run", "--diff", kSaved})["equal"], true);
  ASSERT_EQ(tool_.run({"train", "run", "--steps", "4", "--quiet"}).exit_status, 0);
  ASSERT_EQ(tool_.run({"checkpoint", "run"}).exit_status, 0);
  EXPECT_NE(tool_.digest(kSaved), tool_.digest("run"));
  EXPECT_EQ(tool_.digest("run/checkpoints/step-000004"), tool_.digest("run"));
  for (const char* later : {"run", "run/checkpoints/step-000004"}) {
    const nlohmann::json difference = json({kSaved, "--diff", later, "--tensors", "wte.weight"});
    EXPECT_EQ(difference["equal"], false);
    EXPECT_EQ(difference["compared"], 3) << "weight and two moments";
    EXPECT_EQ(difference["a_step"], 3);
    EXPECT_EQ(difference["b_step"], 4);
  }
}

TEST_F(InspectCheckpoint, ComparesWithSafetensors) {
  testing::SafetensorsWriter writer;
  writer.add<float>("ln_f.weight", "F32", std::vector<float>(32, 7));
  write_file(tool_.path("x.safetensors"), writer.file());
  const nlohmann::json difference = json({kSaved, "--diff", "x.safetensors", "--tensors", "ln_f.weight"});
  EXPECT_EQ(difference["compared"], 1);
  EXPECT_EQ(difference["differences"][0]["differing"], 32);
}

TEST_F(InspectCheckpoint, ShowsTheSameStatisticsAsOfTheRun) {
  const nlohmann::json of_run = json({"run", "--stats", "--state"});
  const nlohmann::json statistics = json({kSaved, "--stats", "--state"});
  EXPECT_EQ(statistics["statistics"], of_run["statistics"]);
  EXPECT_EQ(json({kSaved, "--stats", "--tensors", "wte.*"})["statistics"].size(), 1u);
}

TEST_F(InspectCheckpoint, VerifiesAndNamesWhatIsDamaged) {
  const nlohmann::json sound = json({kSaved, "--verify"});
  EXPECT_EQ(sound["sound"], true);
  EXPECT_EQ(sound["has_checksums"], true);
  EXPECT_EQ(sound["bytes"], json({kSaved})["bytes"]);
  EXPECT_THAT(tool_.run({"inspect", kSaved, "--verify"}).out, HasSubstr("every checksum is right"));

  const std::string path = tool_.path(kSaved) + "/pack-00000", whole = read_file(path);
  std::string changed = whole;
  changed[whole.size() / 3] ^= 1;  // within the frames
  write_file(path, changed);
  EXPECT_EQ(tool_.run({"inspect", kSaved}).exit_status, 0) << "listing reads no content";
  const nlohmann::json damaged = json({kSaved, "--verify", "--quiet"}, 4);
  EXPECT_EQ(damaged["sound"], false);
  EXPECT_GE(damaged["damaged"], 1);
  EXPECT_THAT(damaged["faults"][0], HasSubstr("pack-00000: the "));
  EXPECT_THAT(damaged["faults"][0], HasSubstr("(tensor '"));
  EXPECT_EQ(tool_.run({"inspect", kSaved, "--digest"}).exit_status, 4);

  changed = whole;
  changed[whole.size() - 200] ^= 1;  // within the table
  write_file(path, changed);
  expect_refused({kSaved, "--digest"}, 4, "are not what was written");
  // The record names no piece any more; the other records have checksums of their own.
  const nlohmann::json table = json({kSaved, "--verify"}, 4);
  EXPECT_GE(table["damaged"], 1) << table;
  EXPECT_LT(table["damaged"], table["tensors"]) << table;  // those of a bundle share a block
  EXPECT_THAT(table["faults"][0], HasSubstr("are not what was written"));
  EXPECT_THAT(table["faults"][1], HasSubstr("record at offset"));
  EXPECT_THAT(table["faults"][2], HasSubstr("is in no pack"));
  EXPECT_GT(table["bytes"].get<uint64_t>(), sound["bytes"].get<uint64_t>() / 2);
  write_file(path, whole.substr(0, whole.size() - 64));
  const nlohmann::json cut = json({kSaved, "--verify"}, 4);
  EXPECT_THAT(cut["faults"][0], HasSubstr("bytes, and "));
  EXPECT_EQ(cut["bytes"], 0);
  expect_refused({kSaved}, 4, "bytes, and ");
  fs::remove(path);
  EXPECT_THAT(json({kSaved, "--verify"}, 4)["faults"][0], HasSubstr("it is missing"));
  expect_refused({kSaved}, 4, "it is missing");
}

TEST_F(InspectCheckpoint, NamesEveryDamagedPlace) {
  const std::string path = tool_.path(kSaved) + "/pack-00000";
  std::string changed = read_file(path);
  // No piece of this model takes a fifth of the pack.
  for (const size_t share : {3, 5, 7}) changed[changed.size() * share / 10] ^= 1;
  write_file(path, changed);
  const nlohmann::json damaged = json({kSaved, "--verify"}, 4);
  std::set<std::string> offsets;
  for (const std::string fault : damaged["faults"]) {
    const size_t at = fault.find("bytes at offset");
    ASSERT_NE(at, fault.npos) << fault;
    offsets.insert(fault.substr(at, fault.find(':', at) - at));
  }
  EXPECT_EQ(offsets.size(), 3u) << damaged;
}

TEST_F(InspectCheckpoint, SaysWhatItIsNot) {
  expect_refused({"run/checkpoints"}, 2, "name one of the checkpoints in it: run/checkpoints/step-000003");
  expect_refused({kSaved, "--loss"}, 2, "only runs have a history");
  const std::string path = tool_.path(kSaved) + "/manifest.json";
  std::string text = read_file(path);
  const size_t at = text.find("headrace checkpoint 1");
  write_file(path, "{\"format\": \"headrace checkpoint 2\"}");
  expect_refused({kSaved}, 2, "has the format 'headrace checkpoint 2'");
  text[at + 5] ^= 1;
  write_file(path, text);
  expect_refused({kSaved}, 4, "it is not what was written");
  write_file(path, "\x80\x04\x95");
  expect_refused({kSaved}, 2, "is a pickle of PyTorch's");
}

// Ten thousand tensors, 2 GiB of them, in packs whose content is left out.
TEST_F(InspectCheckpoint, ListsALargeOneInLittleMemory) {
  constexpr size_t kTensors = 10000;
  constexpr uint64_t kRows = 112, kColumns = 160;
  storage::CheckpointManifest manifest;
  manifest.run_id = std::string(32, 'a');
  manifest.step = 7;
  manifest.model_json = R"({"model":{"model_type":"gpt2"}})";
  for (size_t i = 0; i < kTensors; i++) {
    const std::string name = fmt::format("h.{}.some.weight", i);
    manifest.tensors.push_back({name,
                                kRows,
                                kColumns,
                                kRows,
                                2,
                                {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2", 4}},
                                {{name, {kRows, kColumns}, 0}}});
  }
  constexpr uint64_t kBytes = kRows * kColumns * 12, kStored = kBytes * 4 / 5;
  manifest.stored_bytes.assign(kTensors, kStored);
  storage::PackInfo pack;
  pack.id = std::string(32, 'b');
  pack.table_offset = storage::kPackHeaderBytes + kTensors * kStored;
  pack.bytes = pack.table_offset + kTensors * 4 * storage::kFrameRecordBytes;
  manifest.packs.push_back(pack);
  const std::string saved = tool_.path("large");
  fs::create_directory(saved);
  write_file(storage::manifest_path(saved), encode_manifest(manifest));
  const storage::File file = storage::File::open(saved + "/pack-00000", storage::OpenMode::kCreate);
  file.pwrite_all(storage::encode_pack_header(pack.id), 0);
  file.resize(pack.bytes);

  const ProcessResult text = tool_.run({"inspect", "large"});
  EXPECT_EQ(text.exit_status, 0) << text.err;
  EXPECT_EQ(std::count(text.out.begin(), text.out.end(), '\n'), kTensors + 1);
  EXPECT_THAT(text.out,
              HasSubstr("179.2 M), 2.00 GiB of parameters and optimizer state, 1.60 GiB on disk (80.0%)"));
  const ProcessResult json = tool_.run({"inspect", "large", "--json"});
  EXPECT_EQ(nlohmann::json::parse(json.out)["tensors"].size(), kTensors);
#ifndef HEADRACE_ADDRESS_SANITIZER  // its shadow memory counts
  EXPECT_LT(text.peak_rss_bytes, 100u << 20);
  EXPECT_LT(json.peak_rss_bytes, 100u << 20);
#endif
}

}  // namespace
}  // namespace headrace

// headrace quantize, and what eval and inspect make of its exports and of hostile ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "tests/support/safetensors_reader.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::ToolRun;

const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 64, "n_head": 2, "vocab_size": 300, "n_positions": 64})";

class Quantize : public ::testing::Test {
 protected:
  Quantize() {
    const ProcessResult result =
        tool_.train("run", 6,
                    {"--seq", "32", "--batch", "2", "--memory", "64MiB", "--checkpoint-every", "6",
                     "--prune-sparsity", "0.5", "--prune-begin", "3"});
    EXPECT_EQ(result.exit_status, 0) << result.err;
  }
  nlohmann::json json(std::vector<std::string> arguments, int status = 0) const {
    arguments.emplace_back("--json");
    const ProcessResult result = tool_.run(arguments);
    EXPECT_EQ(result.exit_status, status) << result.err;
    return nlohmann::json::parse(result.out, nullptr, false);
  }
  // The export with its file's bytes changed.
  template <class Change>
  ProcessResult eval_of(const std::string& name, const Change& change) const {
    fs::copy(tool_.path("small"), tool_.path(name));
    const std::string file = tool_.path(name) + "/model.safetensors";
    std::string bytes = testing::read_file(file);
    change(bytes);
    testing::write_file(file, bytes);
    return tool_.run({"eval", name, "--data", "text", "--memory", "64MiB"});
  }

  ToolRun tool_{HEADRACE_BINARY, kConfig, 3000};
};

TEST_F(Quantize, ExportsIntegersAndEvaluatesBeforeAndAfter) {
  const auto digest = tool_.digest("run");
  const auto result = json({"quantize", "run", "small", "--data", "text", "--memory", "64MiB"});
  EXPECT_EQ(result["quantized_tensors"], 4);
  EXPECT_EQ(result["quantized_weights"], 12 * 64 * 64);
  EXPECT_GT(result["relative_error"], 0.0);
  EXPECT_LT(result["relative_error"], 0.02);
  const auto eval_run = json({"eval", "run", "--data", "text", "--memory", "64MiB"});
  const auto eval_small = json({"eval", "small", "--data", "text", "--memory", "64MiB"});
  EXPECT_EQ(result["before"]["loss"], eval_run["loss"]);
  EXPECT_EQ(result["after"]["loss"], eval_small["loss"]);
  EXPECT_NE(result["after"]["loss"], result["before"]["loss"]);
  EXPECT_NEAR(result["after"]["loss"].get<double>(), result["before"]["loss"].get<double>(), 0.01);
  EXPECT_EQ(tool_.digest("run"), digest);

  // A checkpoint gives the same file; and evaluated itself the same loss as the run that it is of.
  const std::string checkpoint = "run/checkpoints/step-000006";
  ASSERT_EQ(tool_.run({"quantize", checkpoint, "of checkpoint", "--memory", "64MiB"}).exit_status, 0);
  EXPECT_EQ(testing::read_file(tool_.path("of checkpoint") + "/model.safetensors"),
            testing::read_file(tool_.path("small") + "/model.safetensors"));
  EXPECT_EQ(json({"eval", checkpoint, "--data", "text", "--memory", "64MiB"})["loss"], eval_run["loss"]);

  for (const auto& entry : fs::recursive_directory_iterator(tool_.directory())) {
    EXPECT_THAT(entry.path().string(), ::testing::Not(HasSubstr("headrace-eval")));
    EXPECT_THAT(entry.path().string(), ::testing::Not(HasSubstr("unfinished")));
  }
  EXPECT_EQ(tool_.run({"quantize", "run", "small"}).exit_status, 2) << "it is there already";
  EXPECT_EQ(tool_.run({"quantize", "run", "other", "--memory", "20MiB"}).exit_status, 3);
  EXPECT_EQ(tool_.run({"quantize", "nothing", "other"}).exit_status, 2);
  EXPECT_EQ(tool_.run({"quantize", "small", "other"}).exit_status, 2) << "its weights are gone";
}

TEST_F(Quantize, IsSeenByInspect) {
  ASSERT_EQ(tool_.run({"quantize", "run", "small", "--memory", "64MiB"}).exit_status, 0);
  ASSERT_EQ(tool_.run({"quantize", "run", "all", "--embeddings", "--memory", "64MiB"}).exit_status, 0);
  const std::string listing = tool_.run({"inspect", "small"}).out;
  EXPECT_THAT(listing, HasSubstr("quantization: 49152 weights of 4 tensors in int8, with a scale a row\n"));
  EXPECT_THAT(listing, HasSubstr("gpt2"));
  EXPECT_EQ(json({"inspect", "small", "--tensors", "h.0.mlp.c_fc.weight"})["tensors"][0]["type"], "I8");
  EXPECT_EQ(json({"inspect", "all", "--tensors", "wte.weight"})["tensors"][0]["type"], "I8");
  EXPECT_EQ(json({"inspect", "small", "--tensors", "wte.weight"})["tensors"][0]["type"], "F32");
  EXPECT_EQ(json({"inspect", "small", "--verify"})["sound"], true);

  // Statistics and differences are of the numbers that the integers stand for; pruned weights are zeros.
  const auto of = [&](const std::string& path) {
    return json({"inspect", path, "--stats", "--tensors", "h.0.mlp.c_fc.weight"})["statistics"][0];
  };
  EXPECT_GE(of("small")["zeros"], of("run")["zeros"]);
  EXPECT_EQ(of("run")["pruned"], 256 * 64 / 2);
  EXPECT_FALSE(of("small").contains("pruned"));
  EXPECT_NEAR(of("small")["max"].get<double>(), of("run")["max"].get<double>(), 1e-6);
  const auto difference = json({"inspect", "run", "--diff", "small", "--tensors", "h.0.mlp.c_fc.weight"});
  EXPECT_EQ(difference["differences"][0]["tensor"], "h.0.mlp.c_fc.weight");
  EXPECT_LT(difference["differences"][0]["relative_norm"], 0.02);
  const testing::SafetensorsReader file(tool_.path("small") + "/model.safetensors");
  for (const float value : file.floats("h.0.ln_1.bias")) EXPECT_FALSE(value == 0 && std::signbit(value));
}

TEST_F(Quantize, SaysWhatIsWrongWithADamagedExport) {
  ASSERT_EQ(tool_.run({"quantize", "run", "small", "--memory", "64MiB"}).exit_status, 0);
  const auto replace = [](std::string& bytes, const std::string& from, const std::string& to) {
    const size_t at = bytes.find(from);
    ASSERT_NE(at, std::string::npos);
    ASSERT_EQ(from.size(), to.size());
    bytes.replace(at, from.size(), to);
  };
  const ProcessResult cut = eval_of("cut", [](std::string& bytes) { bytes.resize(bytes.size() - 100); });
  EXPECT_EQ(cut.exit_status, 4) << cut.err;
  const ProcessResult renamed = eval_of("renamed", [&](std::string& bytes) {
    replace(bytes, "\"h.0.mlp.c_fc.weight.scale\"", "\"h.0.mlp.c_fc.weight.skale\"");
  });
  EXPECT_EQ(renamed.exit_status, 2);
  EXPECT_THAT(renamed.err, HasSubstr("there is no 'h.0.mlp.c_fc.weight.scale'"));
  const ProcessResult missing = eval_of(
      "missing", [&](std::string& bytes) { replace(bytes, "\"h.0.ln_1.weight\"", "\"h.0.ln_9.weight\""); });
  EXPECT_EQ(missing.exit_status, 2);
  EXPECT_THAT(missing.err, HasSubstr("it has no tensor 'h.0.ln_1.weight'"));
  const ProcessResult no_model =
      eval_of("no model", [&](std::string& bytes) { replace(bytes, "headrace.model", "headrace.nodel"); });
  EXPECT_EQ(no_model.exit_status, 2);
  EXPECT_THAT(no_model.err, HasSubstr("does not say which model"));
  const ProcessResult other_model =
      eval_of("other model", [&](std::string& bytes) { replace(bytes, "\\\"gpt2\\\"", "\\\"gpt3\\\""); });
  EXPECT_EQ(other_model.exit_status, 2);
  EXPECT_THAT(other_model.err, HasSubstr("'gpt3' is not known"));
  const ProcessResult not_a_number = eval_of("nan", [&](std::string& bytes) {
    uint64_t header = 0;
    std::memcpy(&header, bytes.data(), sizeof header);
    const auto parsed = nlohmann::json::parse(bytes.substr(8, header));
    const uint64_t at =
        8 + header + parsed["h.0.attn.c_attn.weight.scale"]["data_offsets"][0].get<uint64_t>();
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(bytes.data() + at + 4 * sizeof nan, &nan, sizeof nan);
  });
  EXPECT_EQ(not_a_number.exit_status, 4);
  EXPECT_THAT(not_a_number.err, HasSubstr("'h.0.attn.c_attn.weight.scale' has the scale nan in row 4"));
  for (const auto& entry : fs::directory_iterator(tool_.directory()))
    EXPECT_THAT(entry.path().string(), ::testing::Not(HasSubstr("headrace-eval")));
}

}  // namespace
}  // namespace headrace

// headrace inspect as a user meets it, on runs and safetensors files.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "build_paths.h"
#include "tests/support/npy_writer.h"
#include "tests/support/process.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/tool_run.h"
#include "tools/loss_history.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::ProcessResult;
using testing::ToolRun;

constexpr const char* kConfig =
    R"({"model_type":"gpt2","n_layer":2,"n_embd":32,"n_head":2,"vocab_size":256,"n_positions":32})";
constexpr const char* kGolden = HEADRACE_GOLDEN_DIR "/gpt2_tiny.safetensors";

class Inspect : public ::testing::Test {
 protected:
  Inspect() : tool_(HEADRACE_BINARY, kConfig, 20000) {}
  void train(const std::string& run, uint64_t steps) {
    const ProcessResult result = tool_.train(run, steps, {"--batch", "2", "--seq", "16", "--quiet"});
    ASSERT_EQ(result.exit_status, 0) << result.err;
  }
  nlohmann::json json(std::vector<std::string> arguments, int exit_status = 0) {
    arguments.insert(arguments.begin(), "inspect");
    arguments.emplace_back("--json");
    const ProcessResult result = tool_.run(arguments);
    EXPECT_EQ(result.exit_status, exit_status) << result.err;
    return nlohmann::json::parse(result.out);
  }

  ToolRun tool_;
};

TEST_F(Inspect, ListsChecksAndComparesRuns) {
  train("run", 3);
  const nlohmann::json list = json({"run", "--tensors", "h.*.attn.*"});
  EXPECT_EQ(list["kind"], "run");
  EXPECT_EQ(list["step"], 3);
  EXPECT_EQ(list["model"]["n_layer"], 2);
  EXPECT_EQ(list["tensors"].size(), 8u);
  EXPECT_EQ(list["tensors"][0]["name"], "h.0.attn.c_attn.weight");
  EXPECT_EQ(list["tensors"][0]["shape"], (std::vector<int>{96, 32}));
  EXPECT_EQ(list["tensors"][0]["bytes"], 96 * 32 * 12);
  EXPECT_EQ(list["tensors"][0]["type"], "F32");

  const nlohmann::json verified = json({"run", "--verify"});
  EXPECT_EQ(verified["sound"], true);
  EXPECT_EQ(verified["bytes"], json({"run"})["bytes"]);

  std::filesystem::copy(tool_.path("run"), tool_.path("later"), std::filesystem::copy_options::recursive);
  EXPECT_EQ(json({"run", "--diff", "later"})["equal"], true);
  ASSERT_EQ(tool_.run({"train", "later", "--steps", "4", "--quiet"}).exit_status, 0);
  const nlohmann::json difference = json({"run", "--diff", "later", "--tensors", "wte.weight"});
  EXPECT_EQ(difference["equal"], false);
  EXPECT_EQ(difference["compared"], 3);  // weight and two moments
  EXPECT_EQ(difference["differences"][0]["tensor"], "wte.weight");
  EXPECT_GT(difference["differences"][0]["max_absolute"], 0.0);
  EXPECT_EQ(difference["b_step"], 4);
}

// The library that reads JSON takes any depth, and printing what it read recurses.
TEST_F(Inspect, AModelThatNestsDeepIsNotPrinted) {
  const std::string deep = std::string(300000, '[') + std::string(300000, ']');
  testing::write_file(tool_.path("deep.safetensors"),
                      testing::safetensors_file(
                          R"({"__metadata__":{"headrace.model":"{\"model\":)" + deep +
                              R"(,\"options\":{}}"},"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                          std::string(4, '\0')));
  const nlohmann::json list = json({"deep.safetensors"});
  EXPECT_EQ(list["tensors"].size(), 1u);
  EXPECT_FALSE(list.contains("model"));
  const ProcessResult evaluated = tool_.run({"eval", "deep.safetensors", "--data", "input.txt"});
  EXPECT_EQ(evaluated.exit_status, 4) << evaluated.err;
  EXPECT_THAT(evaluated.err, HasSubstr("cannot be read"));
}

// Neither what a recurrent model carries nor the features of a graph are parameters.
TEST_F(Inspect, CountsTheParametersThatTrainingCounts) {
  testing::write_file(tool_.path("lstm.json"),
                      R"({"model_type": "lstm", "embedding_size": 8, "hidden_size": 24, "num_layers": 1})");
  testing::write_file(tool_.path("gcn.json"), R"({"model_type": "gcn", "hidden": [5]})");
  std::filesystem::create_directory(tool_.path("graph"));
  testing::write_file(tool_.path("graph/features.npy"),
                      testing::npy_array<float>({6, 7}, std::vector<float>(6 * 7, 0.5F)));
  testing::write_file(tool_.path("graph/labels.npy"), testing::npy_array<int32_t>({6}, {0, 1, 2, 0, 1, 2}));
  testing::write_file(tool_.path("graph/edges.npy"), testing::npy_array<int32_t>({2, 2}, {0, 1, 1, 2}));
  for (const auto& [model, data, others] :
       {std::tuple{"lstm", "text", 2 * 4 * 24}, {"gcn", "graph", 6 * 7}}) {
    const ProcessResult trained =
        tool_.run({"train", model, "--model", std::string(model) + ".json", "--data", data, "--steps", "1",
                   "--batch", "4", "--json", "--memory", "64MiB"});
    ASSERT_EQ(trained.exit_status, 0) << trained.err;
    const auto summary = nlohmann::json::parse(trained.out.substr(trained.out.rfind("{\"summary\"")));
    const nlohmann::json list = json({model});
    EXPECT_EQ(list["parameters"], summary["parameters"]) << model;
    EXPECT_EQ(list["elements"].get<int>() - list["parameters"].get<int>(), others) << model;
    EXPECT_THAT(tool_.run({"inspect", model}).out, HasSubstr(list["parameters"].dump() + " parameters ("))
        << model;
  }
}

// As the message advises, whose reader would rather go on without them.
TEST_F(Inspect, PlotsWhatIsLeftWhereOldLinesWereLost) {
  train("run", 3);
  std::filesystem::remove(tool_.path("run/metrics.jsonl"));
  const ProcessResult lost = tool_.run({"train", "run", "--steps", "5", "--quiet"});
  EXPECT_EQ(lost.exit_status, 4);
  const size_t at = lost.err.find("truncate -s ");
  ASSERT_NE(at, std::string::npos) << lost.err;
  testing::write_file(tool_.path("run/metrics.jsonl"), "");
  std::filesystem::resize_file(tool_.path("run/metrics.jsonl"),
                               std::stoull(lost.err.substr(at + std::strlen("truncate -s "))));
  train("run", 5);
  const nlohmann::json losses = json({"run", "--loss"});
  ASSERT_EQ(losses["losses"].size(), 3u) << losses;
  EXPECT_EQ(losses["steps"][0], 3);
}

TEST_F(Inspect, ASourceIsNotComparedWithItself) {
  train("run", 1);
  const ProcessResult result = tool_.run({"inspect", "run", "--diff", "run/."});
  EXPECT_EQ(result.exit_status, 2);
  EXPECT_THAT(result.err, HasSubstr("are the same"));
}

TEST_F(Inspect, ListsARunInUseAndRefusesToReadIt) {
  train("run", 2);
  const int lock = ::open(tool_.path("run").c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);  // as a trainer holds it
  EXPECT_EQ(tool_.run({"inspect", "run"}).exit_status, 0);
  EXPECT_EQ(tool_.run({"inspect", "run", "--loss"}).exit_status, 0);
  for (const char* option : {"--digest", "--verify", "--stats"}) {
    const ProcessResult result = tool_.run({"inspect", "run", option});
    EXPECT_EQ(result.exit_status, 3) << option;
    EXPECT_THAT(result.err, HasSubstr("run"));
    EXPECT_EQ(result.out, "");
  }
  EXPECT_EQ(tool_.run({"inspect", kGolden, "--diff", "run"}).exit_status, 3);
  ::close(lock);
}

TEST_F(Inspect, FindsAFlippedBitAndNamesItsTensor) {
  train("run", 2);
  const std::string shard = tool_.path("run") + "/shards/000/data.mdb";
  std::string bytes = testing::read_file(shard);
  // A bit in every payload page of the file: whatever is current is damaged.
  for (size_t page = 12288; page + 4096 <= bytes.size(); page += 4096) {
    if (bytes.substr(page + 16, 8) != "headrblk" && bytes.substr(page, 4096) != std::string(4096, '\0'))
      bytes[page + 1000] = static_cast<char>(bytes[page + 1000] ^ 1);
  }
  std::fstream(shard, std::ios::in | std::ios::out | std::ios::binary).write(bytes.data(), bytes.size());
  const nlohmann::json verified = json({"run", "--verify", "--quiet"}, 4);
  EXPECT_EQ(verified["sound"], false);
  EXPECT_GT(verified["damaged"], 0);
  EXPECT_THAT(verified["faults"][0], HasSubstr("are not what was written (tensor '"));
  EXPECT_EQ(tool_.run({"inspect", "run", "--stats"}).exit_status, 4);
}

TEST_F(Inspect, SaysWhatIsWrongWithASafetensorsFile) {
  EXPECT_EQ(json({kGolden, "--verify"})["sound"], true);
  const std::string whole = testing::read_file(kGolden);
  testing::write_file(tool_.path("cut.safetensors"), whole.substr(0, whole.size() - 10));
  for (const char* option : {"--verify", "--stats", "--quiet"})
    EXPECT_EQ(tool_.run({"inspect", "cut.safetensors", option}).exit_status, 4) << option;
  testing::write_file(tool_.path("longer.safetensors"), whole + "0123456789");
  EXPECT_EQ(tool_.run({"inspect", "longer.safetensors"}).exit_status, 0);
  const nlohmann::json verified = json({"longer.safetensors", "--verify"}, 4);
  EXPECT_THAT(verified["faults"][0], HasSubstr("the 10 bytes at offset"));
  testing::write_file(tool_.path("model.bin"), std::string("PK\x03\x04", 4) + "0000000000archive/data.pkl");
  const ProcessResult pickle = tool_.run({"inspect", "model.bin"});
  EXPECT_EQ(pickle.exit_status, 2);
  EXPECT_THAT(pickle.err, HasSubstr("save it with safetensors"));
  EXPECT_EQ(tool_.run({"inspect", kGolden, "--tensors", "nothing.*"}).exit_status, 2);
  EXPECT_EQ(tool_.run({"inspect", kGolden, "--stats", "--verify"}).exit_status, 2);
}

TEST_F(Inspect, ShowsStatistics) {
  testing::SafetensorsWriter writer;
  writer.add<float>("x", "F32", {1, 2, 3, -2, 0});
  testing::write_file(tool_.path("x.safetensors"), writer.file());
  const nlohmann::json s = json({"x.safetensors", "--stats"})["statistics"][0];
  EXPECT_EQ(s["min"], -2);
  EXPECT_EQ(s["zeros"], 1);
  EXPECT_EQ(s["histogram"]["width"], 0.5);
  const ProcessResult text = tool_.run({"inspect", "x.safetensors", "--stats"});
  EXPECT_THAT(text.out, HasSubstr("histogram"));
  train("run", 2);
  EXPECT_EQ(json({"run", "--stats", "--state", "--tensors", "wte.*"})["statistics"].size(), 3u);
}

TEST_F(Inspect, PlotsTheLossesOfARun) {
  train("run", 5);
  const nlohmann::json losses = json({"run", "--loss"});
  EXPECT_EQ(losses["steps"], (std::vector<int>{1, 2, 3, 4, 5}));
  EXPECT_EQ(losses["losses"].size(), 5u);
  // What a crash may leave behind the committed lines does not count; what it kept from being written does.
  const std::string path = tool_.path("run") + "/metrics.jsonl", text = testing::read_file(path);
  testing::write_file(path, text + "{\"step\":6,");
  EXPECT_EQ(json({"run", "--loss"}), losses);
  testing::write_file(path, text.substr(0, text.rfind("{\"step\":5")));
  EXPECT_EQ(json({"run", "--loss"}), losses);
  testing::write_file(path, "x" + text.substr(1));
  EXPECT_EQ(tool_.run({"inspect", "run", "--loss"}).exit_status, 4);
  EXPECT_EQ(tool_.run({"inspect", kGolden, "--loss"}).exit_status, 2);
}

TEST_F(Inspect, WritesAPageThatNeedsNothingElse) {
  train("run", 5);
  ASSERT_EQ(tool_.run({"inspect", "run", "--loss", "--html", "loss.html"}).exit_status, 0);
  const std::string page = testing::read_file(tool_.path("loss.html"));
  for (const char* part : {"<!DOCTYPE html>", "<title>Loss of run</title>", "<path class=\"curve\" d=\"M",
                           "5 committed", "</html>"})
    EXPECT_THAT(page, HasSubstr(part));
  for (const char* part : {"http:", "https:", "<script", "<link", "@import", "url(", "src="})
    EXPECT_THAT(page, Not(HasSubstr(part)));
  EXPECT_EQ(tool_.run({"inspect", "run", "--loss", "--html", "/nowhere/x.html"}).exit_status, 1);
  EXPECT_EQ(tool_.run({"inspect", "run", "--html", "x.html"}).exit_status, 2);
  EXPECT_THAT(tools::loss_page("<b>&", {{1, 2.0}}), HasSubstr("Loss of &lt;b&gt;&amp;"));
  EXPECT_THAT(tools::loss_page("run", {}), HasSubstr("No step"));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(LossPlot, FallsFromTheUpperLeftToTheLowerRight) {
  std::vector<tools::LossPoint> points;
  for (uint64_t step = 1; step <= 1000; step++)
    points.push_back({step, 10 - 0.009 * static_cast<double>(step)});
  for (const uint32_t width : {40u, 80u, 200u}) {
    const auto lines = lines_of(tools::plot_losses(points, {.width = width, .height = 12}));
    ASSERT_EQ(lines.size(), 12u);
    for (const std::string& line : lines) EXPECT_LE(line.size(), width);
    EXPECT_THAT(lines[0], HasSubstr("|**"));
    EXPECT_EQ(lines[9].back(), '*');
    EXPECT_EQ(lines[9].size(), width - 1);
    EXPECT_THAT(lines[11], HasSubstr("step 1"));
    EXPECT_THAT(lines[11], HasSubstr("1000"));
  }
}

TEST(LossPlot, HasColoursOnlyWhereAsked) {
  const std::vector<tools::LossPoint> points{{1, 2.0}, {2, 1.0}, {3, std::nan("")}, {4, 1.5}};
  EXPECT_THAT(tools::plot_losses(points, {.utf8 = true}), Not(HasSubstr("\x1b")));
  EXPECT_THAT(tools::plot_losses(points, {.utf8 = true}), HasSubstr("⠁"));
  EXPECT_THAT(tools::plot_losses(points, {.utf8 = true, .colour = true}), HasSubstr("\x1b[36m"));
  for (const char c : tools::plot_losses(points, {})) EXPECT_LT(static_cast<unsigned char>(c), 0x80);
}

TEST(LossPlot, SurvivesWhatCannotBePlotted) {
  EXPECT_THAT(tools::plot_losses({}, {}), HasSubstr("no step"));
  EXPECT_THAT(tools::plot_losses({{1, std::nan("")}}, {}), HasSubstr("no step"));
  EXPECT_EQ(lines_of(tools::plot_losses({{7, 3.0}}, {.width = 1, .height = 1})).size(), 5u);
  EXPECT_THAT(tools::plot_losses({{1, 1e300}, {2, -1e300}, {3, 1e308}}, {}), HasSubstr("e+30"));
}

TEST(LossHistory, TakesOnlyLinesOfMetrics) {
  EXPECT_EQ(tools::parse_metrics_line(R"({"step":3,"loss":2.5})")->loss, 2.5);
  EXPECT_TRUE(std::isnan(tools::parse_metrics_line(R"({"step":3,"loss":null})")->loss));
  for (const char* bad : {"", "{", "[]", "{}", R"({"step":-1,"loss":1})", R"({"step":1.5,"loss":1})",
                          R"({"step":1,"loss":"x"})", R"({"step":1})", R"({"step":1,"loss":1e999})"})
    EXPECT_FALSE(tools::parse_metrics_line(bad)) << bad;
}

}  // namespace
}  // namespace headrace

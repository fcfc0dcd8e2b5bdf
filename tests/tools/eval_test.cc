// What headrace eval says to people.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "build_paths.h"
#include "tests/support/npy_writer.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using testing::npy_array;
using testing::ProcessResult;
using testing::ToolRun;

TEST(Eval, NamesWhatItCounted) {
  const ToolRun tool(HEADRACE_BINARY, R"({"model_type": "gcn", "hidden": [5]})", 10);
  const auto make_graph = [&](const std::string& name, const std::vector<int32_t>& labels) {
    std::filesystem::create_directory(tool.path(name));
    testing::write_file(tool.path(name + "/features.npy"),
                        npy_array<float>({6, 7}, std::vector<float>(6 * 7, 0.5F)));
    testing::write_file(tool.path(name + "/labels.npy"), npy_array<int32_t>({labels.size()}, labels));
    testing::write_file(tool.path(name + "/edges.npy"), npy_array<int32_t>({2, 2}, {0, 1, 4, 5}));
  };
  make_graph("nodes", {0, 1, 2, 0, 1, 2});
  make_graph("graphs", {0, 1});
  testing::write_file(tool.path("graphs/graph_ids.npy"), npy_array<int32_t>({6}, {0, 0, 0, 1, 1, 1}));
  for (const auto& [data, counted] : {std::pair{"nodes", "over 6 nodes"}, {"graphs", "over 2 graphs"}}) {
    const std::string run = std::string("run-") + data;
    const ProcessResult trained = tool.run(
        {"train", run, "--model", "config.json", "--data", data, "--steps", "1", "--memory", "64MiB"});
    ASSERT_EQ(trained.exit_status, 0) << trained.err;
    const ProcessResult evaluated = tool.run({"eval", run, "--data", data, "--memory", "64MiB"});
    ASSERT_EQ(evaluated.exit_status, 0) << evaluated.err;
    EXPECT_THAT(evaluated.out, HasSubstr(counted));
  }
}

}  // namespace
}  // namespace headrace

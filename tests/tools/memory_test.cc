// The memory budget as a promise: a run lives in a cgroup little larger than its budget.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "storage/text.h"
#include "tests/support/npy_writer.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using ::testing::HasSubstr;
using testing::ProcessResult;
using testing::ToolRun;

constexpr uint64_t kMiB = uint64_t{1} << 20;

#ifdef HEADRACE_ADDRESS_SANITIZER
constexpr bool kSanitized = true;  // shadow memory breaks every budget
#else
constexpr bool kSanitized = false;
#endif

// A memory cgroup (version 1 or 2) of the test's own.
class MemoryCgroup {
 public:
  explicit MemoryCgroup(uint64_t limit_bytes) {
    limit_bytes = limit_bytes / 4096 * 4096;  // as the kernel keeps it
    const std::string name = "headrace-test-" + std::to_string(::getpid());
    for (const auto& [root, limit, peak] :
         {std::tuple{"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"},
          std::tuple{"/sys/fs/cgroup", "memory.max", "memory.peak"}}) {
      const std::string path = std::string(root) + "/" + name;
      std::error_code error;
      if (!std::filesystem::create_directory(path, error)) continue;
      const bool of_the_kernel = std::filesystem::exists(path + "/cgroup.procs");
      if (of_the_kernel) std::ofstream(path + "/" + limit) << limit_bytes;
      if (uint64_t set = 0; of_the_kernel && std::ifstream(path + "/" + limit) >> set && set == limit_bytes) {
        path_ = path;
        peak_ = path + "/" + peak;
        return;
      }
      std::filesystem::remove(path, error);
    }
  }
  ~MemoryCgroup() {
    if (!path_.empty()) ::rmdir(path_.c_str());
  }
  MemoryCgroup(const MemoryCgroup&) = delete;
  MemoryCgroup& operator=(const MemoryCgroup&) = delete;

  bool usable() const { return !path_.empty(); }
  ProcessResult run(const ToolRun& tool, const std::vector<std::string>& arguments) const {
    std::vector<std::string> all{"-c", "echo $$ > " + path_ + "/cgroup.procs && exec \"$@\"", "sh",
                                 tool.binary()};
    all.insert(all.end(), arguments.begin(), arguments.end());
    testing::Process process("/bin/sh", {.arguments = all, .directory = tool.directory()});
    return process.finish();
  }
  uint64_t peak_bytes() const {
    uint64_t bytes = 0;
    std::ifstream(peak_) >> bytes;
    return bytes;
  }

 private:
  std::string path_, peak_;
};

uint64_t peak_rss_of(const ProcessResult& result) {
  return nlohmann::json::parse(result.out.substr(result.out.rfind("{\"summary\"")))["peak_rss_bytes"];
}

// Trains in a cgroup of the budget and 64 MiB.
void expect_arguments_kept(const ToolRun& tool, uint64_t budget_bytes, std::vector<std::string> arguments) {
  const MemoryCgroup cgroup(budget_bytes + 64 * kMiB);
  if (!cgroup.usable()) GTEST_SKIP() << "no memory cgroup can be made here (needs root)";
  arguments.insert(arguments.end(), {"--json", "--memory", std::to_string(budget_bytes)});
  const ProcessResult result = cgroup.run(tool, arguments);
  ASSERT_EQ(result.exit_status, 0) << "signal " << result.signal << "\n" << result.err;
  EXPECT_LE(peak_rss_of(result), budget_bytes);
  EXPECT_GT(cgroup.peak_bytes(), 0U) << "the run was not in the cgroup";
  std::printf("budget %s, peak resident %s, peak of the cgroup %s\n", format_size(budget_bytes).c_str(),
              format_size(peak_rss_of(result)).c_str(), format_size(cgroup.peak_bytes()).c_str());
}

void expect_kept(const ToolRun& tool, uint64_t budget_bytes, const std::vector<std::string>& options) {
  expect_arguments_kept(tool, budget_bytes, tool.train_arguments("run", 3, options));
}

TEST(MemoryBudget, IsKeptByAModelTenTimesItsSize) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  const ToolRun tool(HEADRACE_BINARY, R"({"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12})",
                     40000);
  const uint64_t state_bytes = uint64_t{124439808} * 12;
  expect_kept(tool, state_bytes / 10, {"--seq", "64", "--batch", "1"});
}

TEST(MemoryBudget, IsKeptByAGraphWhoseFeaturesAreTenTimesItsSize) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  constexpr uint64_t kNodes = 40000, kColumns = 2700;
  const ToolRun tool(HEADRACE_BINARY, R"({"model_type": "gcn", "hidden": [16]})", 10);
  std::filesystem::create_directory(tool.path("graph"));
  const auto write = [&](const std::string& name, const std::string& content) {
    testing::write_file(tool.path("graph/") + name, content);
  };
  std::vector<int32_t> labels, edges;
  for (uint64_t i = 0; i < kNodes; i++) {
    labels.push_back(int32_t(i % 3));
    for (const uint64_t step : {1, 77, 4001}) {
      edges.push_back(int32_t(i));
      edges.push_back(int32_t((i * 3 + step) % kNodes));
    }
  }
  write("labels.npy", testing::npy_array({kNodes}, labels));
  write("edges.npy", testing::npy_array({edges.size() / 2, 2}, edges));
  const std::string one_row = testing::npy_array<float>({1, kColumns}, std::vector<float>(kColumns, 0.5F));
  const std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (40000, 2700)}";
  write("features.npy", testing::npy_file(header, one_row.substr(one_row.size() - kColumns * sizeof(float))));
  std::filesystem::resize_file(tool.path("graph/features.npy"),
                               10 + header.size() + kNodes * kColumns * sizeof(float));  // zeros
  expect_arguments_kept(tool, kNodes * kColumns * sizeof(float) / 10,
                        {"train", "run", "--model", "config.json", "--data", "graph", "--steps", "2"});
}

// The recurrent weight of a layer is held while the loop over time goes on; of the second model it is as
// large as the budget, and is read again at each time step.
TEST(MemoryBudget, IsKeptByRecurrentModelsTenTimesItsSize) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  struct Case {
    const char* config;
    uint64_t parameters;
    bool reads_again;
  };
  for (const auto& [config, parameters, reads_again] :
       {Case{R"({"model_type": "lstm", "embedding_size": 768, "hidden_size": 768, "num_layers": 7})",
             7 * 8 * 768 * 769 + 256 * (2 * 768 + 1), false},
        Case{R"({"model_type": "gru", "embedding_size": 256, "hidden_size": 2048, "num_layers": 2})",
             3 * 2048 * (256 + 3 * 2048 + 4) + 256 * (256 + 2048 + 1), true}}) {
    const ToolRun tool(HEADRACE_BINARY, config, 40000);
    const uint64_t budget = uint64_t{parameters} * 12 / 10;
    const std::vector<std::string> shape{"--seq", "8", "--batch", "1"};
    std::vector<std::string> plan{"plan",  "--model", "config.json", "--memory", std::to_string(budget),
                                  "--json"};
    plan.insert(plan.end(), shape.begin(), shape.end());
    const auto planned = nlohmann::json::parse(tool.run(plan).out);
    EXPECT_EQ(planned["parameters"], parameters);
    EXPECT_EQ(planned["policy"].get<std::string>().find("recurrent weights read again at each time step") !=
                  std::string::npos,
              reads_again);
    expect_kept(tool, budget, shape);
  }
}

uint64_t least_budget(const ProcessResult& refused) {
  EXPECT_EQ(refused.exit_status, 3);
  const size_t at = refused.err.find("give --memory ") + 14;
  const auto least = parse_size(refused.err.substr(at, refused.err.find(' ', at) - at));
  EXPECT_TRUE(least.has_value()) << refused.err;
  return least.value_or(0);
}

// A batch of rows that are read as a whole is large beside the model.
TEST(MemoryBudget, IsKeptByAVeryWideTable) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  constexpr uint64_t kColumns = 150000;
  ToolRun tool(HEADRACE_BINARY, R"({"model_type": "mlp", "hidden": [3], "loss": "cross_entropy"})", 10);
  std::string table;
  for (uint64_t row = 0; row < 12; row++) {
    for (uint64_t column = 0; column < kColumns; column++) table += (row + column) % 3 == 0 ? "1," : "0,";
    table += row % 2 == 0 ? "0\n" : "1\n";
  }
  testing::write_file(tool.path("wide.csv"), table);
  tool.use_data("wide.csv");
  const std::vector<std::string> options{"--batch", "12"};
  std::vector<std::string> too_little = options;
  too_little.insert(too_little.end(), {"--memory", "40MiB"});
  const ProcessResult refused = tool.train("run", 3, too_little);
  EXPECT_THAT(refused.err, HasSubstr("batches and data that are kept in memory (13.7 MiB)"));
  EXPECT_THAT(refused.err, HasSubstr("or take a smaller --batch"));
  expect_kept(tool, least_budget(refused), options);
}

TEST(MemoryBudget, IsKeptAtItsLeast) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  const ToolRun tool(
      HEADRACE_BINARY,
      R"({"model_type": "gpt2", "n_layer": 4, "n_embd": 256, "n_head": 4, "vocab_size": 2000})", 40000);
  const std::vector<std::string> options{"--seq", "64", "--batch", "4"};
  std::vector<std::string> too_little = options;
  too_little.insert(too_little.end(), {"--memory", "4MiB"});
  expect_kept(tool, least_budget(tool.train("run", 3, too_little)), options);
}

TEST(MemoryBudget, TooSmallIsRefusedAtOnceNamingWhatTakesIt) {
  const ToolRun tool(HEADRACE_BINARY, R"({"model_type": "gpt2"})", 40000);
  const ProcessResult result = tool.train("run", 3, {"--memory", "20MiB"});
  EXPECT_EQ(result.exit_status, 3);
  EXPECT_THAT(result.err, HasSubstr("needs at least"));
  EXPECT_THAT(result.err, HasSubstr("the largest parts are"));
  EXPECT_THAT(result.err, HasSubstr("the process and its libraries"));
  if (!kSanitized) {
    EXPECT_LT(result.seconds, 2.0);  // a promise, not a measurement: it takes a tenth of that
  }
  EXPECT_FALSE(std::filesystem::exists(tool.path("run")));
}

}  // namespace
}  // namespace headrace

// Fashion-MNIST (Debian's dataset-fashion-mnist) is learned: accuracy on pictures that were held out. Short
// trainings; longer ones reach more (docs/tutorial-tables.md).
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "tests/support/process.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::ProcessResult;

const char* const kData = "/usr/share/datasets/fashion-mnist";

double accuracy_of(std::vector<std::string> options) {
  const testing::TemporaryDirectory directory;
  const std::vector<std::string> first{"train",    "run",   "--data",  kData,
                                       "--memory", "32MiB", "--batch", "256"};
  options.insert(options.begin(), first.begin(), first.end());
  const ProcessResult trained = testing::run_headrace(HEADRACE_BINARY, options, directory.path());
  EXPECT_EQ(trained.exit_status, 0) << trained.err;
  const ProcessResult evaluated = testing::run_headrace(
      HEADRACE_BINARY, {"eval", "run", "--data", kData, "--memory", "32MiB", "--json"}, directory.path());
  EXPECT_EQ(evaluated.exit_status, 0) << evaluated.err;
  const auto json = nlohmann::json::parse(evaluated.out, nullptr, false);
  return json.is_object() ? json.value("accuracy", 0.0) : 0;
}

TEST(FashionMnist, IsLearnedBySoftmaxRegression) {
  EXPECT_GE(accuracy_of(
                {"--model", "softmax-regression", "--lr", "0.005", "--steps", "300", "--commit-every", "50"}),
            0.81);
}

TEST(FashionMnist, IsLearnedBetterByAPerceptron) {
  EXPECT_GE(accuracy_of({"--model", "mlp", "--hidden", "256", "--lr", "0.003", "--steps", "700",
                         "--commit-every", "50"}),
            0.85);
}

}  // namespace
}  // namespace headrace

// Graph convolutional networks through the whole engine against PyTorch, where the adjacency is a dense
// matrix: tests/golden/make_gcn_golden.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "engine/math/gemm.h"
#include "models/gcn.h"
#include "tests/support/golden.h"
#include "tests/support/safetensors_reader.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::SafetensorsReader;
using testing::TensorValues;
using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

class GcnGolden : public ::testing::TestWithParam<const char*> {
 protected:
  GcnGolden() : golden_(std::string(HEADRACE_GOLDEN_DIR "/gcn_") + GetParam() + ".safetensors") {
    config_ = gcn_config(Json::parse(golden_.metadata("config")), "the golden file");
    const std::vector<int32_t> edges = golden_.integers("edges"), first = golden_.integers("first");
    batch_.graph = std::make_shared<const train::Graph>(
        config_.nodes,
        [&](const train::Graph::EdgeVisitor& visit) {
          for (size_t i = 0; i < edges.size(); i += 2) visit(uint32_t(edges[i]), uint32_t(edges[i + 1]));
        },
        std::vector<int64_t>(first.begin(), first.end()));
    batch_.seq = math::kPanel;
    batch_.targets = golden_.integers("targets");
    initial_ = testing::tensors_behind(golden_, "initial.");
  }

  TrainingOptions options() const {
    TrainingOptions options = testing::golden_options(golden_);
    options.run.clip = std::stod(golden_.metadata("clip"));
    options.policy = train::ExecutionPolicy{.micro_batch = 1};
    options.initial = &initial_;
    return options;
  }

  SafetensorsReader golden_;
  GcnConfig config_;
  BatchData batch_;
  TensorValues initial_;
};

TEST_P(GcnGolden, GivesTheLogits) {
  std::vector<float> logits;
  const auto model = make_gcn(config_, [&](math::ConstMatrix seen) {
    logits.assign(seen.data, seen.data + seen.rows * seen.columns);
  });
  TrainingOptions evaluation = options();
  evaluation.evaluate = true;
  const TrainingResult result = run_training(*model, evaluation, {&batch_, 1});
  const std::vector<float> expected = golden_.floats("logits");
  const double error = testing::relative_distance(logits, expected);
  std::printf("logits: relative error %.3g\n", error);
  EXPECT_LE(error, testing::kGoldenTolerance);
  EXPECT_NEAR(result.steps[0].loss, golden_.doubles("losses")[0],
              testing::kGoldenTolerance * result.steps[0].loss);
  uint64_t rows = 0, right = 0;
  for (size_t r = 0; r < batch_.targets.size(); r++) {
    if (batch_.targets[r] < 0) continue;
    const auto row = expected.begin() + ptrdiff_t(r * config_.classes);
    rows++;
    right += std::max_element(row, row + ptrdiff_t(config_.classes)) - row == batch_.targets[r];
  }
  const train::Metrics metrics = model->metrics();
  EXPECT_EQ(metrics.rows, rows);
  EXPECT_EQ(metrics.right, right);
  EXPECT_EQ(std::accumulate(metrics.confusion.begin(), metrics.confusion.end(), uint64_t{0}), rows);
}

TEST_P(GcnGolden, GivesTheGradientOfEveryParameter) {
  TrainingOptions training = options();
  training.run.clip = 0;
  const auto model = make_gcn(config_);
  testing::expect_golden_gradients(run_training(*model, training, {&batch_, 1}), golden_, training.run.beta1);
}

TEST_P(GcnGolden, TrainsTenStepsWithClipping) {
  const auto model = make_gcn(config_);
  const TrainingOptions training = options();
  testing::expect_some_steps_clipped(golden_, training.run.clip);
  const std::vector<BatchData> batches(golden_.doubles("losses").size(), batch_);
  testing::expect_golden_training(run_training(*model, training, batches), golden_);
}

INSTANTIATE_TEST_SUITE_P(Cases, GcnGolden, ::testing::Values("nodes", "mean", "max", "sum"),
                         [](const auto& tested) { return std::string(tested.param); });

}  // namespace
}  // namespace headrace::models

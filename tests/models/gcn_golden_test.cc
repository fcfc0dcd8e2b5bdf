// Graph convolutional networks through the whole engine against PyTorch, where the adjacency is a dense
// matrix: tests/golden/make_gcn_golden.py. Agreement as in gpt2_golden_test.cc.
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
#include "tests/support/safetensors_reader.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::SafetensorsReader;
using testing::TensorValues;
using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

constexpr double kTolerance = 1e-5, kFloor = 1e-7;

double norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += double(value) * double(value);
  return std::sqrt(sum);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
  return std::sqrt(sum);
}

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
    for (const std::string& name : golden_.names())
      if (name.starts_with("initial.")) initial_[name.substr(8)] = golden_.floats(name);
  }

  TrainingOptions options() const {
    const auto adamw = nlohmann::json::parse(golden_.metadata("adamw"));
    TrainingOptions options;
    options.run.block_bytes = 4096;  // one panel of rows in each block
    options.run.schedule = train::LrSchedule::kConstant;
    options.run.warmup = 0;
    options.run.lr = adamw.at("lr").get<double>();
    options.run.beta1 = adamw.at("betas").at(0).get<double>();
    options.run.beta2 = adamw.at("betas").at(1).get<double>();
    options.run.eps = adamw.at("eps").get<double>();
    options.run.weight_decay = adamw.at("weight_decay").get<double>();
    options.run.clip = std::stod(golden_.metadata("clip"));
    options.arena_bytes = 0;  // everything streams
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
  const double error = distance(logits, expected) / norm_of(expected);
  std::printf("logits: relative error %.3g\n", error);
  EXPECT_LE(error, kTolerance);
  EXPECT_NEAR(result.steps[0].loss, golden_.doubles("losses")[0], kTolerance * result.steps[0].loss);
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

// After one step from zero moments without clipping the first moment is (1 - beta1) times the gradient.
TEST_P(GcnGolden, GivesTheGradientOfEveryParameter) {
  TrainingOptions training = options();
  training.run.clip = 0;
  const auto model = make_gcn(config_);
  const TrainingResult result = run_training(*model, training, {&batch_, 1});
  double squares = 0, worst = 0;
  for (const auto& [name, tensor] : result.tensors)
    squares += std::pow(norm_of(golden_.floats("gradient." + name)), 2);
  EXPECT_EQ(result.tensors.size() + 1, initial_.size()) << "all but the features";
  for (const auto& [name, tensor] : result.tensors) {
    const std::vector<float> expected = golden_.floats("gradient." + name);
    std::vector<float> gradient = tensor.moment1;
    for (float& value : gradient) value = float(double(value) / (1 - training.run.beta1));
    const double error = distance(gradient, expected);
    EXPECT_LE(error, std::max(kTolerance * norm_of(expected), kFloor * std::sqrt(squares)))
        << name << ", relative error " << error / norm_of(expected);
    worst = std::max(worst, error / norm_of(expected));
  }
  std::printf("gradients: largest relative error of a tensor %.3g\n", worst);
}

TEST_P(GcnGolden, TrainsTenStepsWithClipping) {
  const auto model = make_gcn(config_);
  const TrainingOptions training = options();
  const std::vector<double> losses = golden_.doubles("losses"), norms = golden_.doubles("norms");
  const std::vector<BatchData> batches(losses.size(), batch_);
  const TrainingResult result = run_training(*model, training, batches);
  ASSERT_EQ(result.steps.size(), losses.size());
  EXPECT_GT(*std::max_element(norms.begin(), norms.end()), training.run.clip) << "a step is clipped";
  EXPECT_LT(*std::min_element(norms.begin(), norms.end()), training.run.clip) << "a step is not";
  for (size_t step = 0; step < losses.size(); step++) {
    EXPECT_NEAR(result.steps[step].loss, losses[step], kTolerance * losses[step]) << "step " << step + 1;
    EXPECT_NEAR(result.steps[step].grad_norm, norms[step], kTolerance * norms[step]) << "step " << step + 1;
  }
  double worst = 0;
  for (const auto& [name, tensor] : result.tensors) {
    const std::vector<float> expected = golden_.floats("final." + name);
    const double error = distance(tensor.weights, expected) / norm_of(expected);
    EXPECT_LE(error, kTolerance) << name;
    worst = std::max(worst, error);
  }
  std::printf("ten steps: largest relative error of a tensor's weights %.3g\n", worst);
}

INSTANTIATE_TEST_SUITE_P(Cases, GcnGolden, ::testing::Values("nodes", "mean", "max", "sum"),
                         [](const auto& tested) { return std::string(tested.param); });

}  // namespace
}  // namespace headrace::models

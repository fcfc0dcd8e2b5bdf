// Perceptrons through the whole engine against PyTorch: tests/golden/make_tables_golden.py. Agreement is
// |a - b| <= 1e-5 |b| for each tensor in the 2-norm.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "models/mlp.h"
#include "models/registry.h"
#include "tests/support/safetensors_reader.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::SafetensorsReader;
using testing::TensorValues;
using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

constexpr double kTolerance = 1e-5, kFloor = 1e-7;
constexpr uint64_t kUnit = 8;  // the last of a batch's units is smaller

double norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float value : values) sum += double(value) * double(value);
  return std::sqrt(sum);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double sum = 0;
  for (size_t i = 0; i < a.size(); i++) sum += std::pow(double(a[i]) - double(b[i]), 2);
  return std::sqrt(sum);
}

class MlpGolden : public ::testing::TestWithParam<std::string> {
 protected:
  MlpGolden() : golden_(HEADRACE_GOLDEN_DIR "/tables_tiny.safetensors") {
    const ModelConfig parsed = parse_model(golden_.metadata(GetParam()), "the golden file");
    model_ = build_model(settled(parsed), {});
    const std::vector<uint64_t>& shape = golden_.shape(name("features"));
    const std::vector<float> features = golden_.floats(name("features"));
    const bool classes = golden_.shape(name("targets")).size() == 2;
    for (uint64_t step = 0; step < shape[0]; step++) {
      BatchData batch{.seq = kUnit, .feature_columns = shape[2]};
      batch.features = part(features, step, shape[1] * shape[2]);
      if (classes) {
        batch.targets = part(golden_.integers(name("targets")), step, shape[1]);
      } else {
        batch.value_columns = golden_.shape(name("targets"))[2];
        batch.values = part(golden_.floats(name("targets")), step, shape[1] * batch.value_columns);
      }
      batches_.push_back(std::move(batch));
    }
    const std::string prefix = name("initial.");
    for (const std::string& tensor : golden_.names())
      if (tensor.starts_with(prefix)) initial_[tensor.substr(prefix.size())] = golden_.floats(tensor);
  }

  static ModelConfig settled(ModelConfig config) {
    settle(config, {}, nullptr);
    return config;
  }
  std::string name(const std::string& tensor) const { return GetParam() + "." + tensor; }
  template <class Value>
  static std::vector<Value> part(const std::vector<Value>& all, uint64_t index, uint64_t size) {
    return {all.begin() + ptrdiff_t(index * size), all.begin() + ptrdiff_t((index + 1) * size)};
  }

  TrainingOptions options() const {
    const auto adamw = nlohmann::json::parse(golden_.metadata("adamw"));
    TrainingOptions options;
    options.policy = train::ExecutionPolicy{.micro_batch = 1, .unit_samples = kUnit};
    options.run.block_bytes = 4096;
    options.run.schedule = train::LrSchedule::kConstant;
    options.run.warmup = 0;
    options.run.lr = adamw.at("lr").get<double>();
    options.run.beta1 = adamw.at("betas").at(0).get<double>();
    options.run.beta2 = adamw.at("betas").at(1).get<double>();
    options.run.weight_decay = adamw.at("weight_decay").get<double>();
    options.run.clip = 0;
    options.arena_bytes = 0;  // everything streams
    options.initial = &initial_;
    return options;
  }

  SafetensorsReader golden_;
  std::unique_ptr<train::Model> model_;
  std::vector<BatchData> batches_;
  TensorValues initial_;
};

// After one step from zero moments the first moment is (1 - beta1) times the gradient.
TEST_P(MlpGolden, GivesTheGradientOfEveryParameter) {
  const TrainingOptions training = options();
  const TrainingResult result = run_training(*model_, training, {batches_.data(), 1});
  ASSERT_EQ(result.tensors.size(), initial_.size());
  double all = 0, worst = 0;
  for (const auto& [tensor, values] : result.tensors)
    all += std::pow(norm_of(golden_.floats(name("gradient." + tensor))), 2);
  for (const auto& [tensor, values] : result.tensors) {
    const std::vector<float> expected = golden_.floats(name("gradient." + tensor));
    std::vector<float> gradient = values.moment1;
    for (float& value : gradient) value = float(double(value) / (1 - training.run.beta1));
    const double error = distance(gradient, expected);
    EXPECT_LE(error, std::max(kTolerance * norm_of(expected), kFloor * std::sqrt(all))) << tensor;
    worst = std::max(worst, error / norm_of(expected));
  }
  std::printf("gradients: largest relative error of a tensor %.3g\n", worst);
}

TEST_P(MlpGolden, TrainsTenSteps) {
  const TrainingResult result = run_training(*model_, options(), batches_);
  const std::vector<double> losses = golden_.doubles(name("losses"));
  ASSERT_EQ(result.steps.size(), losses.size());
  double worst_loss = 0, worst_weights = 0;
  for (size_t step = 0; step < losses.size(); step++) {
    const double error = std::abs(result.steps[step].loss - losses[step]) / losses[step];
    EXPECT_LE(error, kTolerance) << "step " << step + 1;
    worst_loss = std::max(worst_loss, error);
  }
  for (const auto& [tensor, values] : result.tensors) {
    const std::vector<float> expected = golden_.floats(name("final." + tensor));
    const double error = distance(values.weights, expected) / norm_of(expected);
    EXPECT_LE(error, kTolerance) << tensor;
    worst_weights = std::max(worst_weights, error);
  }
  std::printf("ten steps: largest relative error of a loss %.3g, of a tensor's weights %.3g\n", worst_loss,
              worst_weights);
}

TEST_P(MlpGolden, EvaluatesAfterThem) {
  const testing::TemporaryDirectory directory;
  TrainingOptions training = options();
  training.run_dir = directory / "run";
  run_training(*model_, training, batches_);
  training.evaluate = true;
  batches_.push_back(batches_.front());
  const TrainingResult result = run_training(*model_, training, batches_);
  const double expected = golden_.doubles(name("evaluated")).front();
  ASSERT_EQ(result.steps.size(), 1u);
  EXPECT_NEAR(result.steps[0].loss, expected, kTolerance * expected);
}

INSTANTIATE_TEST_SUITE_P(Each, MlpGolden,
                         ::testing::Values("softmax", "relu", "tanh", "sigmoid", "gelu", "dropout"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace headrace::models

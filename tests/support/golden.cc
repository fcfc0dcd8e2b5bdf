#include "tests/support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include <nlohmann/json.hpp>

namespace headrace::testing {

namespace {

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

}  // namespace

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  return distance(a, b) / norm_of(b);
}

TensorValues tensors_behind(const SafetensorsReader& golden, const std::string& prefix) {
  TensorValues tensors;
  for (const std::string& name : golden.names())
    if (name.starts_with(prefix)) tensors[name.substr(prefix.size())] = golden.floats(name);
  return tensors;
}

TrainingOptions golden_options(const SafetensorsReader& golden) {
  const auto adamw = nlohmann::json::parse(golden.metadata("adamw"));
  TrainingOptions options;
  options.run.block_bytes = 4096;
  options.run.schedule = train::LrSchedule::kConstant;
  options.run.warmup = 0;
  options.run.lr = adamw.at("lr").get<double>();
  options.run.beta1 = adamw.at("betas").at(0).get<double>();
  options.run.beta2 = adamw.at("betas").at(1).get<double>();
  options.run.eps = adamw.at("eps").get<double>();
  options.run.weight_decay = adamw.at("weight_decay").get<double>();
  options.run.clip = 0;
  options.arena_bytes = 0;
  return options;
}

std::vector<train::BatchData> token_batches(const SafetensorsReader& golden) {
  const std::vector<uint64_t>& shape = golden.shape("tokens");
  const std::vector<int32_t> tokens = golden.integers("tokens");
  const auto seq = ptrdiff_t(shape[2] - 1);
  std::vector<train::BatchData> batches(shape[0]);
  for (uint64_t row = 0; row < shape[0] * shape[1]; row++) {
    train::BatchData& batch = batches[row / shape[1]];
    const auto first = tokens.begin() + ptrdiff_t(row * shape[2]);
    batch.inputs.insert(batch.inputs.end(), first, first + seq);
    batch.targets.insert(batch.targets.end(), first + 1, first + 1 + seq);
  }
  return batches;
}

void expect_golden_gradients(const TrainingResult& result, const SafetensorsReader& golden, double beta1,
                             const std::string& prefix,
                             const std::function<std::string(const std::string&)>& group_of) {
  const TensorValues gradients = tensors_behind(golden, prefix + "gradient.");
  EXPECT_EQ(result.tensors.size(), gradients.size());
  std::map<std::string, double> squares;  // by group
  for (const auto& [name, gradient] : gradients) squares[group_of(name)] += std::pow(norm_of(gradient), 2);
  double worst = 0;
  for (const auto& [name, tensor] : result.tensors) {
    ASSERT_TRUE(gradients.contains(name)) << name;
    const std::vector<float>& expected = gradients.at(name);
    std::vector<float> gradient = tensor.moment1;
    for (float& value : gradient) value = float(double(value) / (1 - beta1));
    const double error = distance(gradient, expected), norm = norm_of(expected);
    EXPECT_LE(error,
              std::max(kGoldenTolerance * norm, kGoldenGradientFloor * std::sqrt(squares[group_of(name)])))
        << name << ", relative error " << error / norm;
    worst = std::max(worst, error / norm);
  }
  std::printf("gradients: largest relative error of a tensor %.3g\n", worst);
}

void expect_golden_training(const TrainingResult& result, const SafetensorsReader& golden,
                            const std::string& prefix, const Compared& compared) {
  const std::vector<double> losses = golden.doubles(prefix + "losses");
  const bool has_norms = golden.has(prefix + "norms");
  const std::vector<double> norms = has_norms ? golden.doubles(prefix + "norms") : std::vector<double>();
  ASSERT_EQ(result.steps.size(), losses.size());
  double worst_loss = 0, worst_norm = 0, worst_weights = 0;
  for (size_t step = 0; step < losses.size(); step++) {
    const double loss_error = std::abs(result.steps[step].loss - losses[step]) / losses[step];
    EXPECT_LE(loss_error, kGoldenTolerance) << "loss of step " << step + 1;
    worst_loss = std::max(worst_loss, loss_error);
    if (!has_norms) continue;
    const double norm_error = std::abs(result.steps[step].grad_norm - norms[step]) / norms[step];
    EXPECT_LE(norm_error, kGoldenTolerance) << "norm of step " << step + 1;
    worst_norm = std::max(worst_norm, norm_error);
  }
  for (const auto& [name, tensor] : result.tensors) {
    const std::vector<float> expected = compared(name, golden.floats(prefix + "final." + name));
    const double error = relative_distance(compared(name, tensor.weights), expected);
    EXPECT_LE(error, kGoldenTolerance) << name;
    worst_weights = std::max(worst_weights, error);
  }
  std::printf(
      "%zu steps: largest relative error of a loss %.3g, of a norm %.3g, of a tensor's weights %.3g\n",
      losses.size(), worst_loss, worst_norm, worst_weights);
}

void expect_some_steps_clipped(const SafetensorsReader& golden, double clip) {
  const std::vector<double> norms = golden.doubles("norms");
  EXPECT_GT(*std::max_element(norms.begin(), norms.end()), clip) << "no step is clipped";
  EXPECT_LT(*std::min_element(norms.begin(), norms.end()), clip) << "every step is clipped";
}

}  // namespace headrace::testing

// GPT-2 through the whole engine (store, cache, streaming) against PyTorch: tests/golden/make_gpt2_golden.py.
//
// Agreement is |a - b| <= 1e-5 |b| for each tensor in the 2-norm. A gradient has a floor of 1e-7 of the norm
// of all gradients of its layer, because the true gradient of some parts is zero.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "models/gpt2.h"
#include "models/registry.h"
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

// "h.1." of "h.1.attn.c_attn.weight": a layer's tensors share a prefix; the embeddings and the last norm,
// which belong to no layer, are taken one by one.
std::string layer_of(const std::string& name) {
  if (!name.starts_with("h.")) return name;
  return name.substr(0, name.find('.', 2) + 1);
}

// The bias of the keys adds the same to all scores of a query, which softmax does not see: its true gradient
// is zero, and AdamW makes steps of full length out of the sign of rounding errors. Two correct trainings
// agree in everything but these values; they are taken out before final weights are compared.
std::vector<float> without_key_bias(const std::string& name, std::vector<float> values) {
  if (!name.ends_with("attn.c_attn.bias")) return values;
  const auto n = ptrdiff_t(values.size() / 3);  // queries, keys, values
  values.erase(values.begin() + n, values.begin() + 2 * n);
  return values;
}

class Gpt2Golden : public ::testing::Test {
 protected:
  Gpt2Golden() : golden_(HEADRACE_GOLDEN_DIR "/gpt2_tiny.safetensors") {
    config_ = gpt2_config(parse_model(golden_.metadata("config"), "the golden file").json);
    const std::vector<uint64_t>& shape = golden_.shape("tokens");
    const std::vector<int32_t> tokens = golden_.integers("tokens");
    sequences_ = shape[1];
    seq_ = shape[2] - 1;
    for (uint64_t row = 0; row < shape[0] * shape[1]; row++) {
      if (row % shape[1] == 0) batches_.emplace_back();
      const auto first = tokens.begin() + ptrdiff_t(row * shape[2]);
      BatchData& batch = batches_.back();
      batch.inputs.insert(batch.inputs.end(), first, first + ptrdiff_t(seq_));
      batch.targets.insert(batch.targets.end(), first + 1, first + 1 + ptrdiff_t(seq_));
    }
    for (const std::string& name : golden_.names())
      if (name.starts_with("initial.")) initial_[name.substr(8)] = golden_.floats(name);
  }

  TrainingOptions options() const {
    const auto adamw = nlohmann::json::parse(golden_.metadata("adamw"));
    TrainingOptions options;
    options.run.batch = sequences_;
    options.run.seq = seq_;
    options.run.micro_batch = 1;
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
    options.initial = &initial_;
    return options;
  }

  SafetensorsReader golden_;
  Gpt2Config config_;
  uint64_t sequences_ = 0, seq_ = 0;
  std::vector<BatchData> batches_;
  TensorValues initial_;
};

TEST_F(Gpt2Golden, GivesTheLogits) {
  const uint64_t vocabulary = config_.vocab_size;
  std::vector<float> logits(sequences_ * seq_ * vocabulary);
  std::mutex mutex;
  const auto model = make_gpt2(config_, [&](size_t micro_batch, int64_t first_row, math::ConstMatrix block) {
    const std::lock_guard lock(mutex);
    ASSERT_EQ(block.rows, int64_t(seq_));
    for (int64_t t = 0; t < block.rows; t++)
      std::copy_n(block.row(t), block.columns,
                  logits.data() + (micro_batch * seq_ + uint64_t(t)) * vocabulary + uint64_t(first_row));
  });
  TrainingOptions evaluation = options();
  evaluation.evaluate = true;
  evaluation.policy = train::ExecutionPolicy{.micro_batch = 1};
  const TrainingResult result = run_training(*model, evaluation, {batches_.data(), 1});
  const std::vector<float> expected = golden_.floats("logits");
  const double error = distance(logits, expected) / norm_of(expected);
  std::printf("logits: relative error %.3g\n", error);
  EXPECT_LE(error, kTolerance);
  EXPECT_NEAR(result.steps[0].loss, golden_.doubles("losses")[0], kTolerance * result.steps[0].loss);
}

// After one step from zero moments without clipping the first moment is (1 - beta1) times the gradient.
TEST_F(Gpt2Golden, GivesTheGradientOfEveryParameter) {
  TrainingOptions training = options();
  training.run.clip = 0;
  const auto model = make_gpt2(config_);
  const TrainingResult result = run_training(*model, training, {batches_.data(), 1});
  std::map<std::string, double> layer_squares;
  for (const auto& [name, tensor] : result.tensors)
    layer_squares[layer_of(name)] += std::pow(norm_of(golden_.floats("gradient." + name)), 2);
  double worst = 0;
  ASSERT_EQ(result.tensors.size(), initial_.size());
  for (const auto& [name, tensor] : result.tensors) {
    const std::vector<float> expected = golden_.floats("gradient." + name);
    std::vector<float> gradient = tensor.moment1;
    for (float& value : gradient) value = float(double(value) / (1 - training.run.beta1));
    const double error = distance(gradient, expected);
    const double allowed =
        std::max(kTolerance * norm_of(expected), kFloor * std::sqrt(layer_squares[layer_of(name)]));
    EXPECT_LE(error, allowed) << name << ", relative error " << error / norm_of(expected);
    worst = std::max(worst, error / norm_of(expected));
  }
  std::printf("gradients: largest relative error of a tensor %.3g\n", worst);
}

TEST_F(Gpt2Golden, TrainsTenStepsWithClipping) {
  const auto model = make_gpt2(config_);
  const TrainingOptions training = options();
  const TrainingResult result = run_training(*model, training, batches_);
  const std::vector<double> losses = golden_.doubles("losses"), norms = golden_.doubles("norms");
  ASSERT_EQ(result.steps.size(), losses.size());
  EXPECT_GT(*std::max_element(norms.begin(), norms.end()), training.run.clip) << "a step is clipped";
  EXPECT_LT(*std::min_element(norms.begin(), norms.end()), training.run.clip) << "a step is not";
  double worst_loss = 0, worst_norm = 0, worst_weights = 0;
  for (size_t step = 0; step < losses.size(); step++) {
    const double loss_error = std::abs(result.steps[step].loss - losses[step]) / losses[step];
    const double norm_error = std::abs(result.steps[step].grad_norm - norms[step]) / norms[step];
    EXPECT_LE(loss_error, kTolerance) << "step " << step + 1;
    EXPECT_LE(norm_error, kTolerance) << "step " << step + 1;
    worst_loss = std::max(worst_loss, loss_error);
    worst_norm = std::max(worst_norm, norm_error);
  }
  for (const auto& [name, tensor] : result.tensors) {
    const std::vector<float> expected = without_key_bias(name, golden_.floats("final." + name));
    const double error = distance(without_key_bias(name, tensor.weights), expected) / norm_of(expected);
    EXPECT_LE(error, kTolerance) << name;
    worst_weights = std::max(worst_weights, error);
  }
  std::printf(
      "ten steps: largest relative error of a loss %.3g, of a norm %.3g, of a tensor's weights %.3g\n",
      worst_loss, worst_norm, worst_weights);
}

}  // namespace
}  // namespace headrace::models

// Recurrent models through the whole engine (store, cache, streaming) against PyTorch:
// tests/golden/make_recurrent_golden.py. Agreement is |a - b| <= 1e-5 |b| for each tensor in the 2-norm.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "models/recurrent_model.h"
#include "tests/support/safetensors_reader.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::SafetensorsReader;
using testing::TensorValues;
using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

constexpr double kTolerance = 1e-5;

double relative_distance(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double sum = 0, norm = 0;
  for (size_t i = 0; i < a.size(); i++) {
    sum += (double(a[i]) - double(b[i])) * (double(a[i]) - double(b[i]));
    norm += double(b[i]) * double(b[i]);
  }
  return std::sqrt(sum / norm);
}

class RecurrentGolden : public ::testing::TestWithParam<std::string> {
 protected:
  RecurrentGolden()
      : golden_(std::string(HEADRACE_GOLDEN_DIR "/") + GetParam() + "_tiny.safetensors"),
        config_(parse_recurrent(Json::parse(golden_.metadata("config")), "the golden file")) {
    const std::vector<uint64_t>& shape = golden_.shape("tokens");  // [steps, lanes, seq + 1]
    const std::vector<int32_t> tokens = golden_.integers("tokens");
    lanes_ = shape[1];
    seq_ = shape[2] - 1;
    for (uint64_t row = 0; row < shape[0] * shape[1]; row++) {
      if (row % shape[1] == 0) batches_.emplace_back();
      const auto first = tokens.begin() + ptrdiff_t(row * shape[2]);
      BatchData& batch = batches_.back();
      batch.seq = seq_;
      batch.starts_lanes = batches_.size() == 1;
      batch.inputs.insert(batch.inputs.end(), first, first + ptrdiff_t(seq_));
      batch.targets.insert(batch.targets.end(), first + 1, first + 1 + ptrdiff_t(seq_));
    }
    for (const std::string& name : golden_.names())
      if (name.starts_with("initial.")) initial_[name.substr(8)] = golden_.floats(name);
    // What the run's first state holds must not matter: the first batch starts the lanes.
    const char* const parts[] = {"state.h_l", "state.c_l"};
    for (int part = 0; part < (config_.cell == "lstm" ? 2 : 1); part++)
      for (uint64_t l = 0; l < config_.num_layers; l++)
        initial_[parts[part] + std::to_string(l)] = std::vector<float>(lanes_ * config_.hidden_size, 5);
  }

  TrainingOptions options() const {
    const auto adamw = nlohmann::json::parse(golden_.metadata("adamw"));
    TrainingOptions options;
    options.run.batch = lanes_;
    options.run.seq = seq_;
    options.run.micro_batch = 1;
    options.run.block_bytes = 4096;
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

  // The weights stay as they are; the first moments are the last step's gradient.
  TrainingOptions unmoved() const {
    TrainingOptions options = this->options();
    options.run.lr = options.run.min_lr = 0;
    options.run.weight_decay = options.run.beta1 = 0;
    options.run.clip = 0;
    return options;
  }

  SafetensorsReader golden_;
  RecurrentConfig config_;
  uint64_t lanes_ = 0, seq_ = 0;
  std::vector<BatchData> batches_;
  TensorValues initial_;
};

TEST_P(RecurrentGolden, GivesTheLogitsOfTwoWindows) {
  const uint64_t vocabulary = config_.vocab_size;
  std::vector<float> logits(lanes_ * seq_ * vocabulary);
  std::mutex mutex;
  const auto model =
      make_recurrent(config_, lanes_, [&](size_t micro_batch, int64_t first_row, math::ConstMatrix block) {
        const std::lock_guard lock(mutex);
        for (int64_t t = 0; t < block.rows; t++)
          std::copy_n(block.row(t), block.columns,
                      logits.data() + (micro_batch * seq_ + uint64_t(t)) * vocabulary + uint64_t(first_row));
      });
  for (size_t windows : {1, 2}) {
    run_training(*model, unmoved(), {batches_.data(), windows});
    EXPECT_LE(relative_distance(logits, golden_.floats("logits." + std::to_string(windows - 1))), kTolerance)
        << windows << " windows";
  }
}

TEST_P(RecurrentGolden, GivesAllGradientsOfTwoWindows) {
  const auto model = make_recurrent(config_, lanes_);
  for (size_t windows : {1, 2}) {
    const TrainingResult result = run_training(*model, unmoved(), {batches_.data(), windows});
    for (const auto& [name, values] : initial_) {
      if (name.starts_with("state.")) continue;
      const std::vector<float> expected =
          golden_.floats("gradient." + std::to_string(windows - 1) + "." + name);
      EXPECT_LE(relative_distance(result.tensors.at(name).moment1, expected), kTolerance)
          << name << " after " << windows << " windows";
    }
  }
}

TEST_P(RecurrentGolden, TrainsTenStepsAsPyTorchDoes) {
  const std::vector<double> losses = golden_.doubles("losses"), norms = golden_.doubles("norms");
  const double clip = std::stod(golden_.metadata("clip"));
  const auto clipped = std::count_if(norms.begin(), norms.end(), [&](double norm) { return norm > clip; });
  EXPECT_TRUE(clipped > 0 && clipped < int64_t(norms.size())) << "some steps should be clipped, some not";
  const auto model = make_recurrent(config_, lanes_);
  const TrainingResult result = run_training(*model, options(), batches_);
  ASSERT_EQ(result.steps.size(), losses.size());
  for (size_t step = 0; step < losses.size(); step++) {
    EXPECT_LE(std::abs(result.steps[step].loss - losses[step]) / losses[step], kTolerance) << step;
    EXPECT_LE(std::abs(result.steps[step].grad_norm - norms[step]) / norms[step], kTolerance) << step;
  }
  for (const auto& [name, tensor] : result.tensors)
    EXPECT_LE(relative_distance(tensor.weights, golden_.floats("final." + name)), kTolerance) << name;
}

INSTANTIATE_TEST_SUITE_P(Cells, RecurrentGolden, ::testing::Values("rnn", "lstm", "gru"),
                         [](const auto& instance) { return instance.param; });

}  // namespace
}  // namespace headrace::models

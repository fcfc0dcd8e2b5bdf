// Recurrent models through the whole engine (store, cache, streaming) against PyTorch:
// tests/golden/make_recurrent_golden.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "models/recurrent_model.h"
#include "tests/models/recurrent_testing.h"
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

class RecurrentGolden : public ::testing::TestWithParam<std::string> {
 protected:
  RecurrentGolden()
      : golden_(std::string(HEADRACE_GOLDEN_DIR "/") + GetParam() + "_tiny.safetensors"),
        config_(parse_recurrent(Json::parse(golden_.metadata("config")), "the golden file")) {
    const std::vector<uint64_t>& shape = golden_.shape("tokens");  // [steps, lanes, seq + 1]
    lanes_ = shape[1];
    seq_ = shape[2] - 1;
    batches_ = testing::token_batches(golden_);
    for (BatchData& batch : batches_) batch.seq = seq_;
    batches_.front().starts_lanes = true;
    initial_ = testing::tensors_behind(golden_, "initial.");
    // What the run's first state holds must not matter: the first batch starts the lanes.
    const char* const parts[] = {"state.h_l", "state.c_l"};
    for (int64_t part = 0; part < recurrent_cell(config_.cell).states(); part++)
      for (uint64_t l = 0; l < config_.num_layers; l++)
        initial_[parts[part] + std::to_string(l)] = std::vector<float>(lanes_ * config_.hidden_size, 5);
  }

  TrainingOptions options() const {
    TrainingOptions options = testing::golden_options(golden_);
    options.run.batch = lanes_;
    options.run.seq = seq_;
    options.run.micro_batch = 1;
    options.run.clip = std::stod(golden_.metadata("clip"));
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
    EXPECT_LE(testing::relative_distance(logits, golden_.floats("logits." + std::to_string(windows - 1))),
              testing::kGoldenTolerance)
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
      EXPECT_LE(testing::relative_distance(result.tensors.at(name).moment1, expected),
                testing::kGoldenTolerance)
          << name << " after " << windows << " windows";
    }
  }
}

TEST_P(RecurrentGolden, TrainsTenStepsWithClipping) {
  const auto model = make_recurrent(config_, lanes_);
  const TrainingOptions training = options();
  testing::expect_some_steps_clipped(golden_, training.run.clip);
  testing::expect_golden_training(run_training(*model, training, batches_), golden_);
}

INSTANTIATE_TEST_SUITE_P(Cells, RecurrentGolden, ::testing::ValuesIn(testing::cell_names()),
                         testing::cell_test_name);

}  // namespace
}  // namespace headrace::models

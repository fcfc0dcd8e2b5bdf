// GPT-2 through the whole engine (store, cache, streaming) against PyTorch: tests/golden/make_gpt2_golden.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "build_paths.h"
#include "models/gpt2.h"
#include "models/registry.h"
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
    batches_ = testing::token_batches(golden_);
    const std::vector<uint64_t>& shape = golden_.shape("tokens");
    sequences_ = shape[1];
    seq_ = shape[2] - 1;
    initial_ = testing::tensors_behind(golden_, "initial.");
  }

  TrainingOptions options() const {
    TrainingOptions options = testing::golden_options(golden_);
    options.run.batch = sequences_;
    options.run.seq = seq_;
    options.run.micro_batch = 1;
    options.run.clip = std::stod(golden_.metadata("clip"));
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
  const double error = testing::relative_distance(logits, expected);
  std::printf("logits: relative error %.3g\n", error);
  EXPECT_LE(error, testing::kGoldenTolerance);
  EXPECT_NEAR(result.steps[0].loss, golden_.doubles("losses")[0],
              testing::kGoldenTolerance * result.steps[0].loss);
}

TEST_F(Gpt2Golden, GivesTheGradientOfEveryParameter) {
  TrainingOptions training = options();
  training.run.clip = 0;
  const auto model = make_gpt2(config_);
  const TrainingResult result = run_training(*model, training, {batches_.data(), 1});
  testing::expect_golden_gradients(result, golden_, training.run.beta1, "", layer_of);
}

TEST_F(Gpt2Golden, TrainsTenStepsWithClipping) {
  const auto model = make_gpt2(config_);
  const TrainingOptions training = options();
  testing::expect_some_steps_clipped(golden_, training.run.clip);
  testing::expect_golden_training(run_training(*model, training, batches_), golden_, "", without_key_bias);
}

}  // namespace
}  // namespace headrace::models

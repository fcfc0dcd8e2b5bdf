// Steps whose loss is not a number: skipped, they change no bit of the state and the next step is computed
// from what was before; stopped at, they never happened.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "models/gpt2.h"
#include "storage/error.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

constexpr uint64_t kSequences = 3, kSeq = 40, kSteps = 5;

Gpt2Config small_config() {
  Gpt2Config config;
  config.vocab_size = 600;
  config.n_positions = 48;
  config.n_embd = 96;
  config.n_inner = 384;
  config.n_layer = 2;
  config.n_head = 3;
  return config;
}

// A model whose loss is not a number for one batch.
class FailingModel final : public train::Model {
 public:
  explicit FailingModel(const BatchData& failing) : failing_(failing.inputs) {}

  std::vector<storage::TensorSpec> tensors() const override { return model_->tensors(); }
  void bind(const storage::Layout& layout) override { model_->bind(layout); }
  void initialise(storage::TensorId tensor, uint64_t first_row, uint64_t seed,
                  std::span<float> values) const override {
    model_->initialise(tensor, first_row, seed, values);
  }
  void draw(uint64_t seed, uint64_t samples, uint64_t seq, BatchData& batch) const override {
    model_->draw(seed, samples, seq, batch);
  }
  train::Task task() const override { return model_->task(); }
  bool decays(storage::TensorId tensor) const override { return model_->decays(tensor); }
  void train(stream::Context& context, const train::Batch& batch,
             const train::ExecutionPolicy& policy) override {
    fails_ = std::equal(batch.inputs.begin(), batch.inputs.end(), failing_.begin(), failing_.end());
    model_->train(context, batch, policy);
  }
  void evaluate(stream::Context& context, const train::Batch& batch,
                const train::ExecutionPolicy& policy) override {
    model_->evaluate(context, batch, policy);
  }
  double loss() const override { return fails_ ? std::numeric_limits<double>::quiet_NaN() : model_->loss(); }

 private:
  std::unique_ptr<train::Model> model_ = make_gpt2(small_config());
  std::vector<int32_t> failing_;
  bool fails_ = false;
};

std::vector<BatchData> batches() {
  std::vector<BatchData> all;
  for (uint64_t step = 0; step < kSteps; step++)
    all.push_back(testing::random_tokens(step + 1, kSequences, kSeq, small_config().vocab_size));
  return all;
}

TrainingOptions options(double clip) {
  TrainingOptions options;
  options.run.batch = kSequences;
  options.run.seq = kSeq;
  options.run.schedule = train::LrSchedule::kConstant;
  options.run.clip = clip;
  options.run.block_bytes = 1 << 18;
  options.on_nan = train::OnNan::kSkip;
  return options;
}

std::vector<float> all_values(const TrainingResult& result) {
  std::vector<float> all;
  for (const auto& [name, tensor] : result.tensors)
    for (const std::vector<float>* part : {&tensor.weights, &tensor.moment1, &tensor.moment2})
      all.insert(all.end(), part->begin(), part->end());
  return all;
}

class OnNan : public ::testing::TestWithParam<double> {};

TEST_P(OnNan, SkippingLeavesEveryBitAsItWas) {
  const std::vector<BatchData> all = batches();
  FailingModel failing(all[2]);
  const std::span<const BatchData> two(all.data(), 2), three(all.data(), 3);
  const TrainingResult before = run_training(failing, options(GetParam()), two);
  const TrainingResult after = run_training(failing, options(GetParam()), three);
  EXPECT_EQ(all_values(before), all_values(after));
  EXPECT_NE(before.digest, after.digest) << "the step counts";
  ASSERT_EQ(after.steps.size(), 3u);
  EXPECT_FALSE(after.steps[1].skipped);
  EXPECT_TRUE(after.steps[2].skipped);
}

TEST_P(OnNan, SkippingGivesTheSameBitsInAnyBudget) {
  const std::vector<BatchData> all = batches();
  FailingModel failing(all[2]);
  TrainingOptions roomy = options(GetParam()), tight = roomy;
  tight.arena_bytes = 0;
  const TrainingResult expected = run_training(failing, roomy, all);
  EXPECT_TRUE(std::isfinite(expected.steps[3].loss)) << "the training goes on";
  const TrainingResult streamed = run_training(failing, tight, all);
  EXPECT_EQ(streamed.digest, expected.digest);
  EXPECT_EQ(streamed.numbers, expected.numbers);
}

// Waiting for the norm changes when updates run, and no bit.
TEST(SkippingNan, ChangesNothingWhereAllIsFinite) {
  const std::vector<BatchData> all = batches();
  TrainingOptions skip = options(0), stop = skip;
  stop.on_nan = train::OnNan::kStop;
  const auto model = make_gpt2(small_config());
  const TrainingResult expected = run_training(*model, stop, all), skipping = run_training(*model, skip, all);
  EXPECT_EQ(skipping.digest, expected.digest);
  EXPECT_EQ(skipping.numbers, expected.numbers);
}

TEST_P(OnNan, StoppingNamesTheStepAndTheLastThatCounts) {
  const std::vector<BatchData> all = batches();
  FailingModel failing(all[2]);
  TrainingOptions stop = options(GetParam());
  stop.on_nan = train::OnNan::kStop;
  try {
    run_training(failing, stop, all);
    FAIL() << "it went on";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kFailed);
    EXPECT_NE(std::string(error.what()).find("step 3 has the loss nan"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("step 2 is the last"), std::string::npos) << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Clip, OnNan, ::testing::Values(0.0, 1.0));

}  // namespace
}  // namespace headrace::models

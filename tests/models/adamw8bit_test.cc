// Training with moments of 8 bits beside training with moments in float32: the losses stay together, and
// the bytes that a step moves become half.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "models/gpt2.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

constexpr uint64_t kSteps = 80, kSequences = 8, kSeq = 24, kVocabulary = 61;

Gpt2Config tiny_config() {
  Gpt2Config config;
  config.vocab_size = kVocabulary;
  config.n_positions = kSeq;
  config.n_embd = 64;
  config.n_inner = 256;
  config.n_layer = 2;
  config.n_head = 2;
  return config;
}

// A language in which two tokens can follow a token, so that ln 2 is the least loss.
std::vector<BatchData> batches() {
  std::vector<BatchData> all;
  for (uint64_t step = 0; step < kSteps; step++) {
    BatchData batch = testing::random_tokens(step, kSequences, kSeq, kVocabulary);
    for (size_t i = 0; i < batch.inputs.size(); i++) {
      if (i % kSeq != 0) batch.inputs[i] = batch.targets[i - 1];
      batch.targets[i] = (7 * batch.inputs[i] + batch.targets[i] % 2) % int32_t(kVocabulary);
    }
    all.push_back(std::move(batch));
  }
  return all;
}

TrainingOptions options_for(const std::string& optimizer) {
  TrainingOptions options;
  options.run.optimizer = optimizer;
  options.run.lr = 3e-3;
  options.run.min_lr = 3e-4;
  options.run.warmup = 10;
  options.run.schedule_steps = kSteps;
  options.run.batch = kSequences;
  options.run.seq = kSeq;
  return options;
}

TEST(AdamW8bit, FollowsTheLossesOfFloatMoments) {
  const std::vector<BatchData> data = batches();
  const auto losses = [&](const std::string& optimizer) {
    const auto model = make_gpt2(tiny_config());
    return run_training(*model, options_for(optimizer), data).steps;
  };
  const auto exact = losses("adamw"), coded = losses("adamw8bit");
  ASSERT_EQ(exact.size(), kSteps);
  ASSERT_EQ(coded.size(), kSteps);
  double apart = 0;
  for (size_t step = 0; step < kSteps; step++) {
    const double a = exact[step].loss, b = coded[step].loss;
    if (step % 10 == 9) std::printf("step %zu: %.4f and %.4f\n", step + 1, a, b);
    EXPECT_NEAR(a, b, 0.005 * a) << step;
    apart = std::max(apart, std::abs(a - b));
  }
  EXPECT_LT(exact.back().loss, 0.3 * exact.front().loss);
  EXPECT_GT(apart, 1e-5) << "the moments were not rounded";
}

// Of a record without padding: 6 + 8 / 256 bytes a parameter, of which the forward pass reads 2, and 12.
TEST(AdamW8bit, MovesHalfAsManyBytes) {
  Gpt2Config config = tiny_config();
  config.n_embd = 256;
  config.n_inner = 1024;
  std::vector<BatchData> data = batches();
  data.resize(3);
  const auto run = [&](const std::string& optimizer) {
    TrainingOptions options = options_for(optimizer);
    options.run.weights = train::WeightPrecision::kBfloat16;
    options.run.clip = 0;
    options.arena_bytes = 0;
    const auto model = make_gpt2(config);
    return run_training(*model, options, data);
  };
  const TrainingResult exact = run("adamw"), coded = run("adamw8bit");
  std::printf("read %.2f and %.2f MB, written %.2f and %.2f MB\n", 1e-6 * double(exact.moved.read_bytes),
              1e-6 * double(coded.moved.read_bytes), 1e-6 * double(exact.moved.written_bytes),
              1e-6 * double(coded.moved.written_bytes));
  EXPECT_LT(double(coded.moved.written_bytes), 0.56 * double(exact.moved.written_bytes));
  EXPECT_LT(double(coded.moved.read_bytes), 0.60 * double(exact.moved.read_bytes));
}

}  // namespace
}  // namespace headrace::models

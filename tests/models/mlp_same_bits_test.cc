// A perceptron's training, with dropout and without, gives the same bits for every budget, number of threads,
// micro-batch and block size, and stopped in between.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "models/mlp.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

constexpr uint64_t kUnit = 16, kSamples = 75, kSteps = 4;  // the last unit is smaller

MlpConfig config(Loss loss) {
  return {.features = 70,
          .outputs = 9,
          .hidden = {600, 300},
          .activation = Activation::kTanh,
          .norm = norm_by_name(loss == Loss::kCrossEntropy   ? "batch"
                               : loss == Loss::kSquaredError ? "layer"
                                                             : "none"),
          .dropout = loss == Loss::kCrossEntropy ? 0.2 : 0,
          .loss = loss};
}

std::vector<BatchData> batches(Loss loss) {
  std::vector<BatchData> all(kSteps);
  for (uint64_t step = 0; step < kSteps; step++)
    make_mlp(config(loss))->draw(7 + step, kSamples, kUnit, all[step]);
  return all;
}

TrainingOptions base() {
  TrainingOptions options;
  options.run.lr = 1e-3;
  options.run.warmup = 2;
  options.run.clip = 0;
  options.run.block_bytes = 256 * 1024;
  return options;
}

// Each loss with another of what may stand between layers.
class MlpSameBits : public ::testing::TestWithParam<Loss> {};

TEST_P(MlpSameBits, WhateverTheMachineAndThePolicy) {
  const std::vector<BatchData> data = batches(GetParam());
  std::optional<TrainingResult> expected;
  int runs = 0;
  for (const uint64_t block_bytes : {uint64_t{4096}, uint64_t{1} << 20})
    for (const uint64_t micro_batch : {1, 2, 5})
      for (const bool blocks_outside : {false, true})
        for (const std::optional<uint64_t> arena : {std::optional<uint64_t>(0), std::optional<uint64_t>()}) {
          if (blocks_outside && micro_batch == 5) continue;
          TrainingOptions options = base();
          options.run.block_bytes = block_bytes;
          options.threads = micro_batch == 2 ? 1 : 3;
          options.arena_bytes = arena;
          options.policy = train::ExecutionPolicy{
              .micro_batch = micro_batch, .blocks_outside = blocks_outside, .unit_rows = kUnit};
          const auto model = make_mlp(config(GetParam()));
          const TrainingResult result = run_training(*model, options, data);
          if (!expected) expected = result;
          const std::string what = fmt::format("{}, {} threads, blocks of {} bytes",
                                               options.policy->description(), options.threads, block_bytes);
          EXPECT_EQ(result.digest, expected->digest) << what;
          EXPECT_EQ(result.numbers, expected->numbers) << what;
          EXPECT_EQ(result.moved.read_bytes, result.predicted_read_bytes) << what;
          runs++;
        }
  EXPECT_EQ(runs, 20);
}

TEST_P(MlpSameBits, StoppedAndResumed) {
  const std::vector<BatchData> data = batches(GetParam());
  const auto model = make_mlp(config(GetParam()));
  const std::string whole = run_training(*model, base(), data).digest;
  const testing::TemporaryDirectory directory;
  TrainingOptions options = base();
  options.run_dir = directory / "run";
  run_training(*make_mlp(config(GetParam())), options, {data.data(), 2});
  EXPECT_EQ(run_training(*make_mlp(config(GetParam())), options, data).digest, whole);
}

TEST(MlpDropout, LeavesEvaluationAlone) {
  const std::vector<BatchData> data = batches(Loss::kCrossEntropy);
  MlpConfig plain = config(Loss::kCrossEntropy);
  plain.dropout = 0;
  const auto numbers = [&](const MlpConfig& of, bool evaluate) {
    TrainingOptions options = base();
    options.evaluate = evaluate;
    return run_training(*make_mlp(of), options, {data.data(), 1}).numbers;
  };
  EXPECT_EQ(numbers(config(Loss::kCrossEntropy), true), numbers(plain, true));
  EXPECT_NE(numbers(config(Loss::kCrossEntropy), false), numbers(plain, false));
}

std::string name_of(const ::testing::TestParamInfo<Loss>& each) {
  const std::vector<std::string> names{"CrossEntropy", "SquaredError", "BinaryCrossEntropy"};
  return names[size_t(each.param)];
}

INSTANTIATE_TEST_SUITE_P(Each, MlpSameBits,
                         ::testing::Values(Loss::kCrossEntropy, Loss::kSquaredError,
                                           Loss::kBinaryCrossEntropy),
                         name_of);

}  // namespace
}  // namespace headrace::models

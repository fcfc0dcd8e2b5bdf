// The result of a training does not depend on the machine's slack: the same digest, losses and gradient
// norms, to the last bit, for every budget, number of threads, I/O back end, micro-batch, block size and
// policy.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>
#include <string>
#include <tuple>
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
using train::ExecutionPolicy;
using train::WeightPrecision;

// Matrices of several panels of 256 rows, whose last one is smaller.
Gpt2Config small_config() {
  Gpt2Config config;
  config.vocab_size = 700;
  config.n_positions = 50;
  config.n_embd = 192;
  config.n_inner = 768;
  config.n_layer = 2;
  config.n_head = 3;
  config.initializer_range = 0.05;
  return config;
}

constexpr uint64_t kSequences = 4, kSeq = 48, kSteps = 4, kSeed = 7;

std::vector<BatchData> batches() {
  std::vector<BatchData> all;
  for (uint64_t step = 0; step < kSteps; step++)
    all.push_back(testing::random_tokens(kSeed + step, kSequences, kSeq, small_config().vocab_size));
  return all;
}

constexpr double kClip = 3;  // above some steps' gradient norms, below others'
constexpr uint64_t kParameters = (700 + 50 + 2 * 12 * 192) * 192;  // of the matrices
constexpr uint64_t kRowBytes = 12 * 192;  // weights and moments of a row of the narrower matrices

TrainingOptions base_options(double clip, WeightPrecision weights) {
  TrainingOptions options;
  options.run.seed = kSeed;
  options.run.batch = kSequences;
  options.run.seq = kSeq;
  options.run.lr = 1e-3;
  options.run.schedule = train::LrSchedule::kConstant;
  options.run.warmup = 2;
  options.run.clip = clip;
  options.run.weights = weights;
  options.run.block_bytes = 256 * kRowBytes;
  return options;
}

struct Outcome {
  std::string digest, numbers;
};

// Trains once and compares with the first outcome.
class SameBits : public ::testing::TestWithParam<std::tuple<double, WeightPrecision>> {
 protected:
  bool all_combinations() const { return std::get<1>(GetParam()) == WeightPrecision::kFloat32; }
  TrainingOptions base() const { return base_options(std::get<0>(GetParam()), std::get<1>(GetParam())); }

  TrainingResult train(const TrainingOptions& options, const std::string& description) {
    const auto model = make_gpt2(small_config());
    TrainingResult result = run_training(*model, options, batches_);
    const Outcome outcome{result.digest, result.numbers};
    if (!expected_) expected_ = outcome;
    EXPECT_EQ(outcome.digest, expected_->digest) << description << ", seed " << kSeed;
    EXPECT_EQ(outcome.numbers, expected_->numbers) << description << ", seed " << kSeed;
    EXPECT_EQ(result.moved.read_bytes, result.predicted_read_bytes) << description;
    EXPECT_EQ(result.moved.written_bytes, result.predicted_written_bytes) << description;
    runs_++;
    return result;
  }

  std::vector<BatchData> batches_ = batches();
  std::optional<Outcome> expected_;
  int runs_ = 0;
};

// The machine: what a session may choose anew each time, and what preflight chooses by it.
struct Slack {
  std::string name;
  std::optional<uint64_t> memory_bytes, arena_bytes;
};

TEST_P(SameBits, WhateverTheMachine) {
  for (const uint64_t block_panels : {1, 3})
    for (const uint64_t micro_batch : {kSequences, uint64_t{1}}) {
      TrainingOptions options = base();
      options.run.block_bytes = block_panels * 256 * kRowBytes;
      options.run.micro_batch = micro_batch;
      const std::string cut = fmt::format("micro-batch {}, blocks of {} panels", micro_batch, block_panels);
      // The least budget is mostly the process; the arena within it is what streams.
      options.memory_bytes = least_memory_bytes(*make_gpt2(small_config()), options, batches_[0]);
      train(options, "least budget, " + cut);
      options.arena_bytes = 0;
      const uint64_t least = train(options, "least arena, " + cut).preflight.cache.arena_bytes;
      options.memory_bytes = TrainingOptions().memory_bytes;
      for (const Slack& slack : {Slack{"least arena", {}, least}, Slack{"twice that", {}, 2 * least},
                                 Slack{"all in memory", {}, {}}})
        for (const uint32_t threads : {1, 2})
          for (const auto io : {storage::IoBackend::kUring, storage::IoBackend::kThreads}) {
            // With one precision all combinations, with the other each value of each.
            if (!all_combinations() && (threads == 1) != (io == storage::IoBackend::kUring)) continue;
            options.arena_bytes = slack.arena_bytes;
            options.threads = threads;
            options.io = io;
            const TrainingResult result = train(
                options, fmt::format("{}, {} threads, back end {}, {}", slack.name, threads, int(io), cut));
            if (slack.name == "least arena") {
              EXPECT_GT(result.moved.read_bytes, 2 * kSteps * kParameters * 12) << "it streams";
            }
            if (slack.name == "all in memory") {
              EXPECT_LT(result.moved.read_bytes, kParameters * 13) << "read once";
            }
          }
    }
  std::printf("%d runs, equal: %s\n%s", runs_, expected_->digest.c_str(), expected_->numbers.c_str());
}

TEST_P(SameBits, WhateverThePolicy) {
  for (const uint64_t micro_batch : {kSequences, uint64_t{3}, uint64_t{1}})
    for (const bool recompute_logits : {false, true})
      for (const bool recompute_layers : {false, true})
        for (const bool blocks_outside : {false, true})
          for (const std::optional<uint64_t> arena :
               {std::optional<uint64_t>(0), std::optional<uint64_t>()}) {
            if (!all_combinations() && (!arena || micro_batch == 3)) continue;
            TrainingOptions options = base();
            options.policy = ExecutionPolicy{.micro_batch = micro_batch,
                                             .recompute_logits = recompute_logits,
                                             .recompute_layers = recompute_layers,
                                             .blocks_outside = blocks_outside};
            options.arena_bytes = arena;
            train(options, options.policy->description() + (arena ? ", least arena" : ", all in memory"));
          }
  std::printf("%d runs, equal: %s\n", runs_, expected_->digest.c_str());
}

// Blocks that stay in memory between commits are not written; all that is committed in the end is the same.
TEST_P(SameBits, HoweverRarelyItCommits) {
  uint64_t written_most = 0, written_least = ~uint64_t{0};
  for (const uint64_t commit_every : {1, 2, 3, 100})
    for (const std::optional<uint64_t> arena_bytes :
         {std::optional<uint64_t>{}, std::optional<uint64_t>{0}}) {
      TrainingOptions options = base();
      options.run.commit_every = commit_every;
      options.arena_bytes = arena_bytes;
      const TrainingResult result =
          train(options, fmt::format("commits every {} steps, {}", commit_every,
                                     arena_bytes ? "least arena" : "all in memory"));
      if (arena_bytes) continue;
      written_most = std::max(written_most, result.moved.written_bytes);
      written_least = std::min(written_least, result.moved.written_bytes);
    }
  EXPECT_LT(written_least, written_most / 3) << "of four steps only the last should be written";
}

// Otherwise "with clipping" means nothing.
TEST(SameBitsTraining, ClipsSomeStepsAndOthersNot) {
  const auto model = make_gpt2(small_config());
  const std::vector<BatchData> all = batches();
  const TrainingOptions options = base_options(kClip, WeightPrecision::kFloat32);
  const TrainingResult result = run_training(*model, options, all);
  const auto clipped = std::count_if(result.steps.begin(), result.steps.end(),
                                     [](const train::StepReport& step) { return step.grad_norm > kClip; });
  EXPECT_GT(clipped, 0) << result.numbers;
  EXPECT_LT(clipped, int64_t(kSteps)) << result.numbers;
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<double, WeightPrecision>>& info) {
  return std::string(std::get<0>(info.param) > 0 ? "Clipping" : "NoClipping") +
         (std::get<1>(info.param) == WeightPrecision::kFloat32 ? "Float32" : "Bfloat16");
}

INSTANTIATE_TEST_SUITE_P(Training, SameBits,
                         ::testing::Combine(::testing::Values(kClip, 0.0),
                                            ::testing::Values(WeightPrecision::kFloat32,
                                                              WeightPrecision::kBfloat16)),
                         name_of);

}  // namespace
}  // namespace headrace::models

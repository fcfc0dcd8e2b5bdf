// Recurrent models give the same bits for every memory budget, thread count, I/O back end, micro-batch, block
// size and policy, whether the recurrent weight is held over the loop over time or read again at each time
// step; and go on where they stopped, in the middle of the lanes.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include <fmt/format.h>

#include "models/recurrent_model.h"
#include "storage/error.h"
#include "tests/models/recurrent_testing.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::TrainingOptions;
using testing::TrainingResult;
using train::ExecutionPolicy;

constexpr uint64_t kLanes = 3, kSeq = 9, kSteps = 3, kVocabulary = 41;

// Weights of several panels of rows, whose last one is smaller, and sums of more than a panel of columns.
RecurrentConfig config_of(const std::string& cell) {
  RecurrentConfig config;
  config.cell = cell;
  config.vocab_size = kVocabulary;
  config.embedding_size = 24;
  config.hidden_size = recurrent_cell(cell).gates == 1 ? 600 : 270;
  config.num_layers = 2;
  return config;
}

TrainingOptions base_options() {
  TrainingOptions options;
  options.run.batch = kLanes;
  options.run.seq = kSeq;
  options.run.lr = 3e-3;
  options.run.warmup = 0;
  options.run.clip = 1;
  options.run.block_bytes = 4096;
  return options;
}

class RecurrentSameBits : public ::testing::TestWithParam<std::string> {
 protected:
  RecurrentSameBits() : model_(make_recurrent(config_of(GetParam()), kLanes)) {
    for (uint64_t step = 0; step < kSteps; step++) {
      batches_.push_back(testing::random_tokens(7 + step, kLanes, kSeq, kVocabulary));
      batches_.back().starts_lanes = step == 0 || step == 2;
    }
    expected_ = run_training(*model_, base_options(), batches_);
  }
  TrainingResult expect_same(const TrainingOptions& options, const std::string& what) {
    TrainingResult result = run_training(*model_, options, batches_);
    EXPECT_EQ(result.numbers, expected_.numbers) << what;
    EXPECT_EQ(result.digest, expected_.digest) << what;
    EXPECT_EQ(result.moved.read_bytes, result.predicted_read_bytes) << what;
    EXPECT_EQ(result.moved.written_bytes, result.predicted_written_bytes) << what;
    return result;
  }
  std::unique_ptr<train::Model> model_;
  std::vector<train::BatchData> batches_;
  TrainingResult expected_;
};

TEST_P(RecurrentSameBits, WhateverTheMachine) {
  for (const uint64_t block_bytes : {uint64_t{4096}, uint64_t{3} << 20})
    for (const auto& [threads, io, arena] :
         {std::tuple{1U, storage::IoBackend::kThreads, std::optional<uint64_t>(0)},
          {3U, storage::IoBackend::kUring, std::optional<uint64_t>(0)},
          {2U, storage::IoBackend::kThreads, std::optional<uint64_t>()}}) {
      TrainingOptions options = base_options();
      options.run.block_bytes = block_bytes;
      options.threads = threads;
      options.io = io;
      options.arena_bytes = arena;
      expect_same(options, fmt::format("blocks of {}, {} threads, back end {}, {}", block_bytes, threads,
                                       int(io), arena ? "the least arena" : "all in memory"));
    }
}

TEST_P(RecurrentSameBits, WhateverThePolicy) {
  for (const uint64_t micro_batch : {1, 2})
    for (const bool streams : {false, true})
      for (const bool outside : {false, true}) {
        TrainingOptions options = base_options();
        options.policy = ExecutionPolicy{.micro_batch = micro_batch,
                                         .recompute_logits = outside == streams,
                                         .recompute_layers = outside == (micro_batch == 1),
                                         .blocks_outside = outside,
                                         .streams_recurrent = streams};
        options.arena_bytes = 0;
        expect_same(options, options.policy->description());
      }
}

// A recurrent weight that would be held whole is larger than all of the least budget's cache.
TEST_P(RecurrentSameBits, InABudgetThatTheRecurrentWeightDoesNotFit) {
  TrainingOptions options = base_options();
  options.policy = ExecutionPolicy{.micro_batch = 1};
  options.arena_bytes = 0;
  const TrainingResult held = expect_same(options, "held");
  options.policy->streams_recurrent = true;
  const TrainingResult streamed = expect_same(options, "read again");
  const uint64_t weight = sizeof(float) * uint64_t(recurrent_cell(GetParam()).gates) *
                          config_of(GetParam()).hidden_size * config_of(GetParam()).hidden_size;
  EXPECT_GT(held.preflight.cache.arena_bytes, weight);
  if (recurrent_cell(GetParam()).gates > 1) {  // else an update takes as much
    EXPECT_LT(streamed.preflight.cache.arena_bytes, held.preflight.cache.arena_bytes);
  }
  // In each of the lanes forward and backward, the first step's zeros not always.
  EXPECT_GT(streamed.moved.read_bytes, kSteps * kLanes * 2 * (kSeq - 2) * 2 * weight);
}

TEST_P(RecurrentSameBits, AfterAStopInTheMiddleOfTheLanes) {
  const testing::TemporaryDirectory directory;
  TrainingOptions options = base_options();
  options.run_dir = directory / "run";
  const TrainingResult part = run_training(*model_, options, {batches_.data(), 2});
  EXPECT_NE(part.digest, expected_.digest);
  EXPECT_EQ(run_training(*model_, options, batches_).digest, expected_.digest);
}

// A test of the tests: without what the lanes carry the results would be others.
TEST_P(RecurrentSameBits, DependOnWhatTheLanesCarry) {
  batches_[1].starts_lanes = true;
  const TrainingResult result = run_training(*model_, base_options(), batches_);
  EXPECT_NE(result.numbers, expected_.numbers);
  EXPECT_NE(result.digest, expected_.digest);
}

INSTANTIATE_TEST_SUITE_P(Cells, RecurrentSameBits, ::testing::ValuesIn(testing::cell_names()),
                         testing::cell_test_name);

}  // namespace
}  // namespace headrace::models

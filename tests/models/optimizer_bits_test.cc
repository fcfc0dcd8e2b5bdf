// With every optimizer, whose blocks have one entry or two, of two to six planes: the same digest, losses
// and norms whatever the budget and the blocks, and the bytes that the plan announces.
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "engine/train/optimizer.h"
#include "models/gpt2.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;
using train::WeightPrecision;

constexpr uint64_t kSteps = 3, kSequences = 2, kSeq = 24;

Gpt2Config small_config() {
  Gpt2Config config;
  config.vocab_size = 700;
  config.n_positions = 30;
  config.n_embd = 64;
  config.n_inner = 256;
  config.n_layer = 1;
  config.n_head = 2;
  return config;
}

std::vector<BatchData> batches() {
  std::vector<BatchData> all;
  for (uint64_t step = 0; step < kSteps; step++)
    all.push_back(testing::random_tokens(step, kSequences, kSeq, small_config().vocab_size));
  return all;
}

struct Kind {
  std::string name, optimizer;
  double momentum = 0;
};

std::vector<Kind> kinds() {
  std::vector<Kind> all{{"sgd with momentum", "sgd", 0.9}};
  for (const train::OptimizerFamily& family : train::optimizer_families())
    all.push_back({family.name, family.name});
  return all;
}

TEST(OptimizerBits, AreTheSameWhateverTheMachine) {
  const std::vector<BatchData> data = batches();
  for (const Kind& kind : kinds())
    for (const WeightPrecision weights : {WeightPrecision::kFloat32, WeightPrecision::kBfloat16})
      for (const double clip : {0.0, 1.0}) {
        std::optional<std::string> expected;
        for (const uint64_t panels : {1, 3})
          for (const std::optional<uint64_t> arena :
               {std::optional<uint64_t>(0), std::optional<uint64_t>()}) {
            TrainingOptions options;
            options.run.optimizer = kind.optimizer;
            options.run.momentum = kind.momentum;
            options.run.l1 = 1e-4;
            options.run.weights = weights;
            options.run.clip = clip;
            options.run.batch = kSequences;
            options.run.seq = kSeq;
            options.run.block_bytes = panels * 256 * 12 * 64;
            options.run.commit_every = panels;
            options.arena_bytes = arena;
            const auto model = make_gpt2(small_config());
            const TrainingResult result = run_training(*model, options, data);
            const std::string what =
                fmt::format("{}, {} planes, clip {}, {} panels, {}", kind.name, int(weights), clip, panels,
                            arena ? "least arena" : "all in memory");
            const std::string outcome = result.digest + "\n" + result.numbers;
            if (!expected) expected = outcome;
            EXPECT_EQ(outcome, *expected) << what;
            EXPECT_EQ(result.moved.read_bytes, result.predicted_read_bytes) << what;
            EXPECT_EQ(result.moved.written_bytes, result.predicted_written_bytes) << what;
          }
      }
}

}  // namespace
}  // namespace headrace::models

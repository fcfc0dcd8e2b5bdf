// Pruning through the whole engine: against PyTorch's masks (tests/golden/make_pruning_golden.py; agreement
// is |a - b| <= 1e-5 |b| for each tensor in the 2-norm), against sorting, and with the same bits everywhere.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "engine/train/pruning.h"
#include "models/gpt2.h"
#include "models/mlp.h"
#include "models/registry.h"
#include "tests/support/golden.h"
#include "tests/support/safetensors_reader.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::SafetensorsReader;
using testing::TensorValues;
using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;
using train::WeightPrecision;

bool is_pruned(float weight) { return weight == 0 && std::signbit(weight); }

size_t count_pruned(const std::vector<float>& weights) {
  return size_t(std::count_if(weights.begin(), weights.end(), is_pruned));
}

// --- against PyTorch ---

class PruningGolden : public ::testing::TestWithParam<std::string> {};

TEST_P(PruningGolden, TrainsTenStepsAsPyTorchDoes) {
  const SafetensorsReader golden(HEADRACE_GOLDEN_DIR "/pruning_tiny.safetensors");
  ModelConfig config = parse_model(golden.metadata("model"), "the golden file");
  settle(config, {}, nullptr);
  const auto model = build_model(config, {});
  const auto pruning = nlohmann::json::parse(golden.metadata("cases")).at(GetParam());
  TrainingOptions options = testing::golden_options(golden);
  options.run.clip = pruning.at("clip");
  options.run.prune_sparsity = pruning.at("sparsity");
  options.run.prune_initial = pruning.at("initial");
  options.run.prune_begin = pruning.at("begin");
  options.run.prune_end = pruning.at("end");
  options.run.prune_every = pruning.at("every");
  options.policy = train::ExecutionPolicy{.micro_batch = 1, .unit_rows = 8};
  const TensorValues initial = testing::tensors_behind(golden, "initial.");
  options.initial = &initial;
  const std::vector<float> features = golden.floats("features");
  const std::vector<int32_t> targets = golden.integers("targets");
  const std::vector<uint64_t>& shape = golden.shape("features");
  std::vector<BatchData> batches(shape[0]);
  for (size_t step = 0; step < batches.size(); step++) {
    const auto rows = ptrdiff_t(shape[1]), columns = ptrdiff_t(shape[2]), at = ptrdiff_t(step) * rows;
    batches[step] = {.seq = 8, .feature_columns = shape[2]};
    batches[step].features.assign(features.begin() + at * columns, features.begin() + (at + rows) * columns);
    batches[step].targets.assign(targets.begin() + at, targets.begin() + at + rows);
  }

  const TrainingResult result = run_training(*model, options, batches);
  testing::expect_golden_training(result, golden, GetParam() + ".");
  for (const auto& [name, values] : result.tensors) {
    const std::vector<float> expected = golden.floats(GetParam() + ".final." + name);
    for (size_t i = 0; i < expected.size() && name.ends_with(".weight"); i++)
      ASSERT_EQ(is_pruned(values.weights[i]), expected[i] == 0) << name << " " << i;
  }
}

INSTANTIATE_TEST_SUITE_P(Each, PruningGolden, ::testing::Values("once", "gradually", "clipped"),
                         [](const auto& each) { return each.param; });

// --- against sorting ---

MlpConfig perceptron() { return {.features = 70, .outputs = 9, .hidden = {600, 300}}; }

std::vector<BatchData> batches_of(const train::Model& model, uint64_t steps) {
  std::vector<BatchData> all(steps);
  for (uint64_t step = 0; step < steps; step++) model.draw(7 + step, 40, 16, all[step]);
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

// Many weights have the same magnitude, and the matrix has several blocks.
TEST(Pruning, TakesTheSmallestWeightsOfEachMatrixAndTiesByTheirIndex) {
  const auto model = make_mlp(perceptron());
  TensorValues initial;
  for (const storage::TensorSpec& tensor : model->tensors()) {
    std::vector<float>& values = initial[tensor.parts[0].name];
    values.resize(tensor.rows * tensor.columns);
    for (size_t i = 0; i < values.size(); i++)
      values[i] = float(i * 2654435761U >> 7 & 15) / 64 * (i % 3 == 0 ? -1.0F : 1.0F) + 0.0F;
  }
  for (const WeightPrecision weights : {WeightPrecision::kFloat32, WeightPrecision::kBfloat16})
    for (const double sparsity : {0.03, 0.5, 0.875}) {
      TrainingOptions options = base();
      options.initial = &initial;
      options.run.block_bytes = 4096;
      options.run.weights = weights;
      options.run.prune_sparsity = sparsity;
      const TrainingResult result = run_training(*model, options, batches_of(*model, 1));
      for (const auto& [name, values] : result.tensors) {
        if (name.ends_with(".bias")) {
          EXPECT_EQ(count_pruned(values.weights), 0u) << name;
          continue;
        }
        const std::vector<float>& before = initial.at(name);
        std::vector<size_t> order(before.size());
        std::iota(order.begin(), order.end(), size_t{0});
        std::stable_sort(order.begin(), order.end(),
                         [&](size_t a, size_t b) { return std::abs(before[a]) < std::abs(before[b]); });
        const auto wanted = size_t(std::nearbyint(sparsity * double(before.size())));
        EXPECT_EQ(count_pruned(values.weights), wanted) << name;
        for (size_t i = 0; i < wanted; i++) {
          ASSERT_TRUE(is_pruned(values.weights[order[i]])) << name << " " << order[i];
          ASSERT_EQ(values.moment1[order[i]], 0) << name;
        }
      }
    }
}

TEST(Pruning, ReachesTheSparsityOfItsScheduleAndKeepsWhatIsPruned) {
  const auto model = make_mlp(perceptron());
  TrainingOptions options = base();
  options.run.clip = 1;  // updates are late: those of a step run beside the next one's choice
  options.run.prune_sparsity = 0.9;
  options.run.prune_begin = 2;
  options.run.prune_end = 6;
  options.run.prune_every = 1;
  const std::vector<BatchData> data = batches_of(*model, 8);
  std::vector<float> before;
  for (size_t steps = 1; steps <= data.size(); steps++) {
    const TrainingResult result = run_training(*model, options, std::span(data).first(steps));
    const std::vector<float>& weights = result.tensors.at("layers.1.weight").weights;
    const double sparsity = train::sparsity_at(options.run, steps);
    EXPECT_EQ(count_pruned(weights), size_t(std::nearbyint(sparsity * double(weights.size())))) << steps;
    EXPECT_EQ(result.steps.back().sparsity, sparsity);
    for (size_t i = 0; i < before.size(); i++) {
      ASSERT_TRUE(is_pruned(weights[i]) || !is_pruned(before[i])) << steps;
    }
    before = weights;
  }
  EXPECT_EQ(count_pruned(before), size_t(0.9 * double(before.size())));
}

// A step whose loss is not finite has no update, but its pruning happens.
TEST(Pruning, HappensAlsoWhereTheUpdateIsSkipped) {
  const auto model = make_mlp(perceptron());
  TrainingOptions options = base();
  options.on_nan = train::OnNan::kSkip;
  options.run.prune_sparsity = 0.5;
  options.run.prune_begin = 2;
  std::vector<BatchData> data = batches_of(*model, 3);
  data[1].features[0] = INFINITY;
  const TrainingResult result = run_training(*model, options, data);
  EXPECT_TRUE(result.steps[1].skipped);
  const std::vector<float>& weights = result.tensors.at("layers.1.weight").weights;
  EXPECT_EQ(count_pruned(weights), weights.size() / 2);
}

// --- the same bits ---

TEST(PrunedBits, AreTheSameWhateverTheMachine) {
  const auto model = make_mlp(perceptron());
  const std::vector<BatchData> data = batches_of(*model, 5);
  for (const char* optimizer : {"adamw", "sgd"})
    for (const WeightPrecision weights : {WeightPrecision::kFloat32, WeightPrecision::kBfloat16})
      for (const double clip : {0.0, 0.5}) {
        if (optimizer == std::string("sgd") && clip == 0) continue;
        std::optional<std::string> expected;
        for (const uint64_t block_bytes : {uint64_t{4096}, uint64_t{1} << 20})
          for (const std::optional<uint64_t> arena :
               {std::optional<uint64_t>(0), std::optional<uint64_t>()}) {
            TrainingOptions options = base();
            options.run.optimizer = optimizer;
            options.run.weights = weights;
            options.run.clip = clip;
            options.run.block_bytes = block_bytes;
            options.run.commit_every = block_bytes == 4096 ? 1 : 2;
            options.run.prune_sparsity = 0.8;
            options.run.prune_begin = 2;
            options.run.prune_end = 4;
            options.run.prune_every = 1;
            options.threads = block_bytes == 4096 ? 3 : 1;
            options.arena_bytes = arena;
            options.policy =
                train::ExecutionPolicy{.micro_batch = block_bytes == 4096 ? 1U : 3U, .unit_rows = 16};
            const TrainingResult result = run_training(*model, options, data);
            const std::string what =
                fmt::format("{}, {} planes, clip {}, blocks of {}, {}", optimizer, int(weights), clip,
                            block_bytes, arena ? "least arena" : "all in memory");
            const std::string outcome = result.digest + "\n" + result.numbers;
            if (!expected) expected = outcome;
            EXPECT_EQ(outcome, *expected) << what;
            EXPECT_EQ(result.moved.read_bytes, result.predicted_read_bytes) << what;
            EXPECT_EQ(result.moved.written_bytes, result.predicted_written_bytes) << what;
          }
      }
}

TEST(PrunedBits, AreTheSameStoppedBetweenTwoPrunings) {
  const auto model = make_mlp(perceptron());
  const std::vector<BatchData> data = batches_of(*model, 6);
  TrainingOptions options = base();
  options.run.clip = 1;
  options.run.prune_sparsity = 0.7;
  options.run.prune_begin = 2;
  options.run.prune_end = 5;
  options.run.prune_every = 1;
  const TrainingResult whole = run_training(*model, options, data);
  for (size_t stop = 1; stop < data.size(); stop++) {
    const testing::TemporaryDirectory directory;
    options.run_dir = directory / "run";
    run_training(*model, options, std::span(data).first(stop));
    EXPECT_EQ(run_training(*model, options, data).digest, whole.digest) << stop;
  }
}

TEST(PrunedBits, LeaveEmbeddingsAloneUnlessTheyAreAskedFor) {
  Gpt2Config config;
  config.vocab_size = 300;
  config.n_positions = 30;
  config.n_embd = 64;
  config.n_inner = 256;
  config.n_layer = 1;
  config.n_head = 2;
  const std::vector<BatchData> data{testing::random_tokens(1, 2, 24, config.vocab_size)};
  for (const bool embeddings : {false, true}) {
    const auto model = make_gpt2(config);
    TrainingOptions options = base();
    options.run.batch = 2;
    options.run.seq = 24;
    options.run.prune_sparsity = 0.5;
    options.run.prune_embeddings = embeddings;
    const TrainingResult result = run_training(*model, options, data);
    for (const auto& [name, values] : result.tensors) {
      const bool pruned = name.ends_with("c_attn.weight") || name.ends_with("c_fc.weight") ||
                          name.ends_with("c_proj.weight") || (embeddings && name.starts_with("w"));
      EXPECT_EQ(count_pruned(values.weights), pruned ? values.weights.size() / 2 : 0) << name;
    }
  }
}

}  // namespace
}  // namespace headrace::models

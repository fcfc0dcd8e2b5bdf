// The gradients of GPT-2 against finite differences of its loss, for a few weights of every tensor:
// independent of any other implementation.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "models/gpt2.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::TensorValues;
using testing::TrainingOptions;
using testing::TrainingResult;
using train::BatchData;

constexpr uint64_t kSeq = 7, kSequences = 2, kSeed = 11;

Gpt2Config tiny_config() {
  Gpt2Config config;
  config.vocab_size = 37;
  config.n_positions = 9;
  config.n_embd = 10;
  config.n_inner = 13;
  config.n_layer = 2;
  config.n_head = 2;
  config.initializer_range = 0.3;
  return config;
}

TEST(Gpt2Gradient, AgreesWithFiniteDifferences) {
  const auto model = make_gpt2(tiny_config());
  const std::vector<BatchData> batch{
      testing::random_tokens(kSeed, kSequences, kSeq, tiny_config().vocab_size)};
  TrainingOptions options;
  options.run.seed = kSeed;
  options.run.batch = kSequences;
  options.run.seq = kSeq;
  options.run.clip = 0;
  options.run.lr = 0;  // so that the weights read back are the initial ones
  options.run.min_lr = 0;
  options.run.warmup = 0;
  options.arena_bytes = 0;
  const TrainingResult trained = run_training(*model, options, batch);
  TensorValues weights;
  for (const auto& [name, tensor] : trained.tensors) weights[name] = tensor.weights;

  options.evaluate = true;
  options.initial = &weights;
  const auto loss = [&] { return run_training(*model, options, batch).steps[0].loss; };
  // The loss is computed in float32: a difference over 2 h carries an error of about 1e-6 / h.
  const float h = 1.0F / 64;
  for (auto& [name, of_name] : weights) {
    std::vector<float>& values = of_name;  // a binding cannot be captured everywhere
    const std::vector<float>& moment = trained.tensors.at(name).moment1;
    // Along the element with the largest gradient and one in the middle, together.
    const auto largest = std::max_element(moment.begin(), moment.end(),
                                          [](float a, float b) { return std::abs(a) < std::abs(b); });
    const std::set<size_t> elements{size_t(largest - moment.begin()), values.size() / 2};
    const std::vector<float> start = values;
    const auto loss_at = [&](float distance) {
      for (const size_t i : elements) values[i] = start[i] + distance;
      return loss();
    };
    const double expected = (loss_at(h) - loss_at(-h)) / (2 * double(h));
    values = start;
    double gradient = 0;
    for (const size_t i : elements) gradient += double(moment[i]) / (1 - options.run.beta1);
    EXPECT_NEAR(gradient, expected, 2e-4 + 2e-3 * std::abs(expected)) << name << ", seed " << kSeed;
  }
}

}  // namespace
}  // namespace headrace::models

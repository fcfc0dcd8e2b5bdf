// State that commits with the step: a model's state tensor gets exactly the value that the model gives it,
// whatever happens to its parameters.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "engine/train/model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/training_run.h"

namespace headrace::train {
namespace {

using testing::TrainingOptions;
using testing::TrainingResult;

constexpr storage::TensorId kWeight = 0, kState = 1;
constexpr int64_t kRows = 600, kColumns = 8, kStateElements = 5;
constexpr float kStart = 0.1F;
constexpr uint64_t kSteps = 5;

float next_value(float value, int64_t element) { return value / 3 + float(element) + 1e-3F; }

// The gradient of every weight is one. The state is read, and given its next value.
class CountingModel final : public Model {
 public:
  // The step whose loss is no number.
  explicit CountingModel(uint64_t failing_step = 0) : failing_step_(failing_step) {}

  std::vector<storage::TensorSpec> tensors() const override {
    const auto spec = [](const std::string& name, uint64_t rows, uint64_t columns) {
      return storage::TensorSpec{.name = name,
                                 .rows = rows,
                                 .columns = columns,
                                 .planes = {},
                                 .parts = {{.name = name, .shape = {rows, columns}, .first_element = 0}}};
    };
    return {spec("weight", kRows, kColumns), spec("state", kStateElements, 1)};
  }
  void bind(const storage::Layout&) override {}
  void initialise(storage::TensorId, uint64_t, uint64_t, std::span<float> values) const override {
    std::fill(values.begin(), values.end(), kStart);
  }
  bool decays(storage::TensorId) const override { return true; }
  bool is_state(storage::TensorId tensor) const override { return tensor == kState; }
  void draw(uint64_t, uint64_t, uint64_t, BatchData&) const override {}
  Task task() const override { return Task::kRegression; }
  double loss() const override { return failing_ ? std::numeric_limits<double>::quiet_NaN() : 1; }
  void evaluate(stream::Context&, const Batch&, const ExecutionPolicy&) override {}

  void train(stream::Context& context, const Batch& batch, const ExecutionPolicy&) override {
    failing_ = batch.step != 0 && batch.step == failing_step_;
    const stream::Parameter weight{kWeight, kRows, kColumns}, state{kState, kStateElements, 1};
    const stream::Tensor value = context.load_state(state);
    context.finish_updates();
    context.backward({.weight = weight,
                      .work = [](const stream::BlockRows&, size_t) { return stream::Work{}; },
                      .run = [](const stream::BlockRows&, const math::WeightView&, size_t, math::Matrix dw,
                                math::Accumulate,
                                stream::Workspace) { std::fill_n(dw.data, dw.rows * dw.columns, 1.0F); }});
    const stream::Tensor next = context.gradient_of_vectors(state);
    context.compute({.reads = {value}, .writes = {next}}, [&](stream::Workspace) {
      for (int64_t i = 0; i < kStateElements; i++)
        context.matrix(next).data[i] = next_value(context.matrix(value).data[i], i);
    });
    context.end_vectors(state);
  }

 private:
  uint64_t failing_step_;
  bool failing_ = false;
};

std::vector<float> value_after(uint64_t steps) {
  std::vector<float> values(kStateElements, kStart);
  for (uint64_t step = 0; step < steps; step++)
    for (int64_t i = 0; i < kStateElements; i++) values[size_t(i)] = next_value(values[size_t(i)], i);
  return values;
}

TrainingOptions options(double clip, WeightPrecision weights) {
  TrainingOptions options;
  options.run.batch = options.run.seq = 1;
  options.run.clip = clip;
  options.run.weights = weights;
  options.run.block_bytes = 1;  // blocks of a panel
  return options;
}

const std::vector<BatchData> kBatches(
    kSteps, BatchData{.inputs = {0}, .targets = {0}, .features = {}, .values = {}, .seq = 1});

TEST(StateTensor, HoldsTheModelsExactValueHoweverStepsAreCarriedOut) {
  for (const double clip : {0.0, 0.5})
    for (const auto weights : {WeightPrecision::kFloat32, WeightPrecision::kBfloat16})
      for (const uint64_t commit_every : {1, 3})
        for (const std::optional<uint64_t> arena :
             {std::optional<uint64_t>{}, std::optional<uint64_t>{0} /* the least */}) {
          CountingModel model;
          TrainingOptions asked = options(clip, weights);
          asked.run.commit_every = commit_every;
          asked.arena_bytes = arena;
          const TrainingResult result = run_training(model, asked, kBatches);
          const testing::TrainedTensor& state = result.tensors.at("state");
          const std::string how = fmt::format("clip {}, weights {}, commit every {}, arena {}", clip,
                                              int(weights), commit_every, arena ? "least" : "large");
          EXPECT_EQ(state.weights, value_after(kSteps)) << how;
          EXPECT_EQ(state.moment1, std::vector<float>(kStateElements, 0)) << how;
          EXPECT_EQ(state.moment2, std::vector<float>(kStateElements, 0)) << how;
          EXPECT_EQ(result.moved.read_bytes, result.predicted_read_bytes) << how;
          for (const StepReport& step : result.steps)
            EXPECT_DOUBLE_EQ(step.grad_norm, std::sqrt(double(kRows * kColumns))) << how;
          EXPECT_NE(result.tensors.at("weight").weights.front(), kStart) << "parameters are trained";
        }
}

TEST(StateTensor, StaysWhereAStepIsSkipped) {
  CountingModel model(3);
  TrainingOptions asked = options(0.5, WeightPrecision::kFloat32);
  asked.on_nan = OnNan::kSkip;
  const TrainingResult result = run_training(model, asked, kBatches);
  EXPECT_TRUE(result.steps.at(2).skipped);
  EXPECT_EQ(result.tensors.at("state").weights, value_after(kSteps - 1));
}

TEST(StateTensor, IsResumedWhereTheRunStopped) {
  CountingModel model;
  const TrainingOptions asked = options(0.5, WeightPrecision::kBfloat16);
  const std::string whole = run_training(model, asked, kBatches).digest;
  const testing::TemporaryDirectory directory;
  TrainingOptions kept = asked;
  kept.run_dir = directory / "run";
  run_training(model, kept, std::span(kBatches).first(2));
  EXPECT_EQ(run_training(model, kept, kBatches).digest, whole);
}

TEST(StateTensor, IsNoParameterToPeople) {
  const CountingModel model;
  std::vector<storage::TensorSpec> tensors = model.tensors();
  for (storage::TensorSpec& tensor : tensors) {
    tensor.block_rows = tensor.rows;
    tensor.planes = {{"weight.high", 2}, {"weight.low", 2}};
  }
  EXPECT_EQ(parameter_count(model, storage::Layout(tensors)), uint64_t(kRows * kColumns));
}

}  // namespace
}  // namespace headrace::train

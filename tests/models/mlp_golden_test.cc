// Perceptrons through the whole engine against PyTorch: tests/golden/make_tables_golden.py.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
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

constexpr uint64_t kUnit = 8;  // the last of a batch's units is smaller

class MlpGolden : public ::testing::TestWithParam<std::string> {
 protected:
  MlpGolden() : golden_(HEADRACE_GOLDEN_DIR "/tables_tiny.safetensors") {
    config_ = parse_model(golden_.metadata(GetParam()), "the golden file");
    settle(config_, {}, nullptr);
    model_ = build_model(config_, {});
    const std::vector<uint64_t>& shape = golden_.shape(name("features"));
    const std::vector<float> features = golden_.floats(name("features"));
    const bool classes = golden_.shape(name("targets")).size() == 2;
    for (uint64_t step = 0; step < shape[0]; step++) {
      BatchData batch{.seq = kUnit, .feature_columns = shape[2]};
      batch.features = part(features, step, shape[1] * shape[2]);
      if (classes) {
        batch.targets = part(golden_.integers(name("targets")), step, shape[1]);
      } else {
        batch.value_columns = golden_.shape(name("targets"))[2];
        batch.values = part(golden_.floats(name("targets")), step, shape[1] * batch.value_columns);
      }
      batches_.push_back(std::move(batch));
    }
    initial_ = testing::tensors_behind(golden_, name("initial."));
  }

  std::string name(const std::string& tensor) const { return GetParam() + "." + tensor; }
  template <class Value>
  static std::vector<Value> part(const std::vector<Value>& all, uint64_t index, uint64_t size) {
    return {all.begin() + ptrdiff_t(index * size), all.begin() + ptrdiff_t((index + 1) * size)};
  }

  TrainingOptions options() const {
    TrainingOptions options = testing::golden_options(golden_);
    options.policy = train::ExecutionPolicy{.micro_batch = 1, .unit_rows = kUnit};
    options.initial = &initial_;
    return options;
  }

  SafetensorsReader golden_;
  ModelConfig config_;
  std::unique_ptr<train::Model> model_;
  std::vector<BatchData> batches_;
  TensorValues initial_;
};

TEST_P(MlpGolden, GivesTheGradientOfEveryParameter) {
  const TrainingOptions training = options();
  const TrainingResult result = run_training(*model_, training, {batches_.data(), 1});
  testing::expect_golden_gradients(result, golden_, training.run.beta1, name(""));
}

TEST_P(MlpGolden, TrainsTenSteps) {
  testing::expect_golden_training(run_training(*model_, options(), batches_), golden_, name(""));
}

TEST_P(MlpGolden, EvaluatesAfterThem) {
  const testing::TemporaryDirectory directory;
  TrainingOptions training = options();
  training.run_dir = directory / "run";
  run_training(*model_, training, batches_);
  training.evaluate = true;
  batches_.push_back(batches_.front());
  const std::vector<float> outputs = golden_.floats(name("outputs"));
  const uint64_t columns = golden_.shape(name("outputs"))[1];
  std::vector<float> seen(outputs.size());
  std::mutex mutex;
  const auto observed = make_mlp(
      mlp_config(Json::parse(config_.json)), [&](size_t micro_batch, int64_t first, math::ConstMatrix block) {
        const std::lock_guard lock(mutex);
        for (int64_t r = 0; r < block.rows; r++)
          std::copy_n(block.row(r), block.columns,
                      seen.data() + (micro_batch * kUnit + uint64_t(r)) * columns + uint64_t(first));
      });
  const TrainingResult result = run_training(*observed, training, batches_);
  const double error = testing::relative_distance(seen, outputs);
  std::printf("outputs: relative error %.3g\n", error);
  EXPECT_LE(error, testing::kGoldenTolerance);
  const double expected = golden_.doubles(name("evaluated")).front();
  ASSERT_EQ(result.steps.size(), 1u);
  EXPECT_NEAR(result.steps[0].loss, expected, testing::kGoldenTolerance * expected);
}

INSTANTIATE_TEST_SUITE_P(Each, MlpGolden,
                         ::testing::Values("softmax", "relu", "tanh", "sigmoid", "gelu", "dropout",
                                           "layer_norm", "batch_norm"),
                         [](const auto& each) { return each.param; });

}  // namespace
}  // namespace headrace::models

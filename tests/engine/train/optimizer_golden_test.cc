// Every optimizer, with and without penalties, against PyTorch: tests/golden/make_optimizer_golden.py. Blocks
// and the cut of their two entries make no difference.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "build_paths.h"
#include "engine/math/kernels.h"
#include "engine/train/optimizer.h"
#include "engine/train/run_options.h"
#include "storage/aligned_memory.h"
#include "storage/layout.h"
#include "tests/support/safetensors_reader.h"

namespace headrace::train {
namespace {

using storage::BlockLayout;

constexpr double kTolerance = 1e-5;

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); i++) {
    difference += std::pow(double(a[i]) - double(b[i]), 2);
    norm += std::pow(double(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

RunOptions options_of(const nlohmann::json& texts) {
  RunOptions options;
  for (const RunOption& option : run_option_table())
    if (texts.contains(option.name)) {
      EXPECT_EQ(option.set(options, texts[option.name].get<std::string>()), "") << option.name;
    }
  return options;
}

// A tensor of one block in memory.
class Trained {
 public:
  Trained(const Optimizer& optimizer, const std::vector<uint64_t>& shape, const std::vector<float>& initial)
      : optimizer_(optimizer),
        layout_({{.name = "t",
                  .rows = shape[0],
                  .columns = shape.size() > 1 ? shape[1] : 1,
                  .block_rows = 256,
                  .slots = 2,
                  .planes = optimizer.planes(),
                  .parts = {{.name = "t", .shape = shape, .first_element = 0}}}}),
        block_(layout_.block(0)),
        memory_(block_.payload_bytes) {
    math::split_planes(initial.data(), std::ssize(initial), plane(0), plane(1));
  }

  void update(uint64_t step, double lr, bool decay, const float* gradient) {
    const stream::BlockPlanes entries = optimizer_.block_planes();
    std::byte* moments =
        entries.has_moments() ? memory_.data() + block_.planes[entries.weight_planes].offset : nullptr;
    optimizer_.update({.step = step, .lr = lr}, decay, block_, memory_.data(), moments, gradient);
  }

  std::vector<float> weights() {
    std::vector<float> values(block_.elements);
    math::join_planes(plane(0), plane(1), std::ssize(values), values.data());
    return values;
  }

 private:
  uint16_t* plane(uint32_t index) {
    return reinterpret_cast<uint16_t*>(memory_.data() + block_.planes[index].offset);
  }

  const Optimizer& optimizer_;
  storage::Layout layout_;
  const BlockLayout& block_;
  storage::AlignedMemory memory_;
};

class OptimizerGolden : public ::testing::TestWithParam<WeightPrecision> {
 protected:
  OptimizerGolden() : golden_(HEADRACE_GOLDEN_DIR "/optimizers.safetensors") {}

  double train(const RunOptions& options, const std::string& name, const std::string& part, bool decay) {
    const auto optimizer = make_optimizer(options);
    const std::vector<float> gradients = golden_.floats("gradients." + part);
    const uint64_t steps = golden_.shape("gradients." + part)[0];
    Trained trained(*optimizer, golden_.shape("initial." + part), golden_.floats("initial." + part));
    for (uint64_t step = 1; step <= steps; step++)
      trained.update(step, std::stod(golden_.metadata("lr")), decay,
                     gradients.data() + (step - 1) * gradients.size() / steps);
    return relative_error(trained.weights(), golden_.floats(name + "." + part));
  }

  testing::SafetensorsReader golden_;
};

TEST_P(OptimizerGolden, TakesTenStepsAsPyTorchDoes) {
  const auto cases = nlohmann::json::parse(golden_.metadata("cases"));
  std::vector<std::string> optimizers;
  for (const auto& [name, texts] : cases.items()) {
    RunOptions options = options_of(texts);
    options.weights = GetParam();
    EXPECT_NO_THROW(check_run_options(options)) << name;
    const double matrix = train(options, name, "matrix", true);
    const double vector = train(options, name, "vector", false);
    std::printf("%s: relative errors %.3g and %.3g\n", name.c_str(), matrix, vector);
    EXPECT_LE(matrix, kTolerance) << name;
    EXPECT_LE(vector, kTolerance) << name;
    optimizers.push_back(options.optimizer);
  }
  for (const OptimizerFamily& family : optimizer_families())
    EXPECT_NE(std::find(optimizers.begin(), optimizers.end(), family.name), optimizers.end()) << family.name;
}

INSTANTIATE_TEST_SUITE_P(Weights, OptimizerGolden,
                         ::testing::Values(WeightPrecision::kFloat32, WeightPrecision::kBfloat16),
                         [](const auto& test) {
                           return test.param == WeightPrecision::kFloat32 ? "TwoPlanes" : "HighPlane";
                         });

}  // namespace
}  // namespace headrace::train

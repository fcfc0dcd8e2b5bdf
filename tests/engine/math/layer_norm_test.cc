#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Doubles;
using testing::Grid;
using testing::Random;
using testing::Workspace;

constexpr float kEpsilon = 1e-5F;

struct Norm {
  int64_t sequences, sequence, n;

  int64_t tokens() const { return sequences * sequence; }
};
const Norm kNorms[] = {{1, 1, 1}, {2, 3, 17}, {1, 300, 33}, {3, 5, 768}, {2, 257, 40}};

Doubles reference(const Doubles& x, const Doubles& weight, const Doubles& bias) {
  const size_t n = weight.size();
  Doubles y(x.size());
  for (size_t row = 0; row < x.size(); row += n) {
    double mean = 0, variance = 0;
    for (size_t i = 0; i < n; i++) mean += x[row + i] / static_cast<double>(n);
    for (size_t i = 0; i < n; i++)
      variance += (x[row + i] - mean) * (x[row + i] - mean) / static_cast<double>(n);
    for (size_t i = 0; i < n; i++) {
      y[row + i] =
          (x[row + i] - mean) / std::sqrt(variance + static_cast<double>(kEpsilon)) * weight[i] + bias[i];
    }
  }
  return y;
}

struct Gradients {
  Grid dx;
  std::vector<float> dweight, dbias;

  std::vector<float> values() const {
    std::vector<float> all = dx.values();
    all.insert(all.end(), dweight.begin(), dweight.end());
    all.insert(all.end(), dbias.begin(), dbias.end());
    return all;
  }
};

struct Operands {
  Grid x, dy;
  std::vector<float> weight, bias;

  Operands(Random& random, const Norm& norm, float mean = 0)
      : x(random, norm.tokens(), norm.n, 3, 2, mean),
        dy(random, norm.tokens(), norm.n, 1),
        weight(random.normals(norm.n, 0.5F, 1)),
        bias(random.normals(norm.n)) {}
};

// `sequences` a call; dx starts at `held` and is added to if that is not zero.
Gradients backward(const Norm& norm, const Operands& operands, int64_t sequences, float held = 0) {
  Gradients g{Grid(norm.tokens(), norm.n, 2), std::vector<float>(operands.weight.size(), 123),
              std::vector<float>(operands.weight.size(), 123)};
  for (int64_t t = 0; t < norm.tokens(); t++) {
    for (int64_t i = 0; i < norm.n; i++) g.dx.at(t, i) = held;
  }
  Workspace workspace(layer_norm_backward_workspace_bytes(norm.tokens(), norm.n, norm.sequence));
  for (int64_t t = 0; t < norm.tokens(); t += sequences * norm.sequence) {
    const int64_t count = std::min(sequences * norm.sequence, norm.tokens() - t);
    layer_norm_backward(operands.x.view().row_range(t, count), operands.weight.data(), kEpsilon,
                        operands.dy.view().row_range(t, count), norm.sequence,
                        g.dx.view().row_range(t, count), held != 0, g.dweight.data(), g.dbias.data(), t > 0,
                        workspace);
  }
  return g;
}

TEST(LayerNorm, AgreesWithANaiveReference) {
  for (const Norm& norm : kNorms) {
    for (const float mean : {0.0F, 100.0F}) {
      Random random;
      const Operands operands(random, norm, mean);
      Grid y(norm.tokens(), norm.n, 4);
      layer_norm(operands.x.view(), operands.weight.data(), operands.bias.data(), kEpsilon, y.view());
      EXPECT_LT(testing::distance(y.values(),
                                  reference(testing::widen(operands.x.values()),
                                            testing::widen(operands.weight), testing::widen(operands.bias))),
                mean == 0 ? 1e-6 : 1e-5);
    }
  }
}

TEST(LayerNorm, BackwardAgreesWithFiniteDifferences) {
  for (const Norm& norm : {Norm{2, 3, 17}, Norm{1, 2, 33}, Norm{1, 4, 5}}) {
    Random random;
    const Operands operands(random, norm);
    const Doubles x = testing::widen(operands.x.values()), weight = testing::widen(operands.weight),
                  bias = testing::widen(operands.bias), dy = testing::widen(operands.dy.values());
    const Gradients actual = backward(norm, operands, norm.sequences);
    const auto loss = [&](const Doubles& a, const Doubles& w, const Doubles& b) {
      return testing::dot(reference(a, w, b), dy);
    };
    EXPECT_LT(testing::distance(
                  actual.dx.values(),
                  testing::numeric_gradient(x, [&](const Doubles& at) { return loss(at, weight, bias); })),
              2e-6);
    EXPECT_LT(
        testing::distance(actual.dweight, testing::numeric_gradient(
                                              weight, [&](const Doubles& at) { return loss(x, at, bias); })),
        2e-6);
    EXPECT_LT(
        testing::distance(actual.dbias, testing::numeric_gradient(
                                            bias, [&](const Doubles& at) { return loss(x, weight, at); })),
        2e-6);
  }
}

TEST(LayerNorm, AddsToTheResidualGradient) {
  const Norm norm{2, 3, 21};
  Random random;
  const Operands operands(random, norm);
  const std::vector<float> alone = backward(norm, operands, 2).dx.values();
  std::vector<float> expected;
  for (const float value : alone) expected.push_back(0.5F + value);
  testing::expect_same_bits(backward(norm, operands, 2, 0.5F).dx.values(), expected, "dx");
}

TEST(LayerNorm, HasTheSameBitsForAnyThreadsAndTarget) {
  for (const Norm& norm : kNorms) {
    Random random;
    const Operands operands(random, norm);
    testing::expect_same_bits_everywhere([&] {
      Grid y(norm.tokens(), norm.n);
      layer_norm(operands.x.view(), operands.weight.data(), operands.bias.data(), kEpsilon, y.view());
      std::vector<float> values = backward(norm, operands, norm.sequences).values();
      for (const float value : y.values()) values.push_back(value);
      return values;
    });
  }
}

TEST(LayerNorm, HasTheSameBitsForAnyMicroBatch) {
  const Norm norm{5, 300, 40};
  Random random;
  const Operands operands(random, norm);
  const std::vector<float> whole = backward(norm, operands, 5).values();
  for (const int64_t sequences : {1, 2, 3}) {
    testing::expect_same_bits(backward(norm, operands, sequences).values(), whole,
                              std::to_string(sequences) + " sequences a call");
  }
}

}  // namespace
}  // namespace headrace::math

// What the tests against golden files share: trainings as PyTorch made them, and what agreement means.
//
// Agreement is |a - b| <= 1e-5 |b| for each tensor in the 2-norm. A gradient has a floor of 1e-7 of the norm
// of all gradients of its group (a layer, or the network), because the true gradient of some parts is zero.
//
// A golden file holds initial.NAME, gradient.NAME (of the first step), final.NAME (after ten), losses, norms;
// and as metadata the options of torch.optim.AdamW. Where one file holds several cases, a prefix comes before
// all.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/train/batch.h"
#include "tests/support/safetensors_reader.h"
#include "tests/support/training_run.h"

namespace headrace::testing {

inline constexpr double kGoldenTolerance = 1e-5, kGoldenGradientFloor = 1e-7;

// |a - b| / |b| in the 2-norm; infinite where the sizes differ.
double relative_distance(const std::vector<float>& a, const std::vector<float>& b);

// The tensors whose names begin with `prefix`, by the rest of the name.
TensorValues tensors_behind(const SafetensorsReader& golden, const std::string& prefix);

// AdamW as the file's metadata says, at a constant rate, without clipping; everything streams, one panel of
// rows a block.
TrainingOptions golden_options(const SafetensorsReader& golden);

// The batches of "tokens" [steps, sequences, seq + 1]: what is seen and what comes next.
std::vector<train::BatchData> token_batches(const SafetensorsReader& golden);

// After one step from zero moments without clipping the first moment is (1 - beta1) times the gradient. By
// default the whole network is one group.
void expect_golden_gradients(
    const TrainingResult& result, const SafetensorsReader& golden, double beta1,
    const std::string& prefix = {},
    const std::function<std::string(const std::string&)>& group_of = [](const std::string&) { return ""; });

// Losses, gradient norms where the file has them, and final weights. `compared` may take out values that two
// correct trainings need not share.
using Compared = std::function<std::vector<float>(const std::string& name, std::vector<float> values)>;
void expect_golden_training(
    const TrainingResult& result, const SafetensorsReader& golden, const std::string& prefix = {},
    const Compared& compared = [](const std::string&, std::vector<float> values) { return values; });

// Of the file's steps some were clipped and some were not.
void expect_some_steps_clipped(const SafetensorsReader& golden, double clip);

}  // namespace headrace::testing

// Multi-layer perceptrons: linear layers with an activation between them, under cross entropy, mean squared
// error or binary cross entropy. Tensors bear the names that PyTorch gives to a list of layers:
// layers.0.weight [out, in], layers.0.bias; they start as torch.nn.Linear's do, evenly within 1 / sqrt(in).
#pragma once

#include <memory>

#include "engine/train/model.h"
#include "models/cross_entropy_head.h"
#include "models/mlp_config.h"

namespace headrace::models {

// The observer sees the outputs of evaluations.
std::unique_ptr<train::Model> make_mlp(const MlpConfig& config, LogitsObserver observer = {});

}  // namespace headrace::models

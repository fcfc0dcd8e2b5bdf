// Graph convolutional networks (Kipf and Welling 2017): convolutions with ReLU and dropout between them.
// Classes of nodes are the last convolution's columns; graphs become rows by pooling, and a linear layer
// classifies them. A step takes the whole graph. The nodes' features are a frozen tensor, "features", and
// stream like weights.
#pragma once

#include <functional>
#include <memory>

#include "engine/train/model.h"
#include "models/gcn_config.h"

namespace headrace::models {

// Sees the logits [nodes or graphs, classes] of each pass; called once a pass.
using ClassLogitsObserver = std::function<void(math::ConstMatrix logits)>;

// Of a settled configuration.
std::unique_ptr<train::Model> make_gcn(const GcnConfig& config, ClassLogitsObserver observer = {});

}  // namespace headrace::models

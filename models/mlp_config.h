// What a multi-layer perceptron is: the widths of its layers, what lies between them, and its loss. Softmax
// regression is one without hidden layers.
//
// A configuration is JSON: {"model_type": "mlp", "features": 784, "hidden": [256, 128], "outputs": 10,
// "activation": "relu", "norm": "layer", "dropout": 0.1, "loss": "cross_entropy"}. Every field may be left
// out: options of the run, the data and then the defaults fill it in; what two of these say must agree. Input
// is hostile until checked. Failure: Error (kUsage).
#pragma once

#include <string>
#include <vector>

#include "engine/train/data_set.h"
#include "engine/train/options.h"
#include "engine/train/table_data.h"
#include "models/activation.h"
#include "models/config_json.h"
#include "models/norm.h"

namespace headrace::models {

enum class Loss : uint8_t { kCrossEntropy, kSquaredError, kBinaryCrossEntropy };

struct MlpConfig {
  uint64_t features = 0, outputs = 0;
  std::vector<uint64_t> hidden;
  Activation activation = Activation::kRelu;
  const NormKind* norm = nullptr;  // of what the activations take; null: none
  double dropout = 0;              // behind each activation, while training
  Loss loss = Loss::kCrossEntropy;
};

// Checks the object of a config.json of either type; fields that it does not have stay out.
Json complete_mlp(const Json& json, const std::string& origin, std::vector<std::string>& notes);
Json settle_mlp(const Json& config, const train::RunOptions& run, const train::DataSet* data);
// Of a settled configuration.
MlpConfig mlp_config(const Json& config);

// The widths that --hidden names: "256,128".
Json hidden_of(const std::string& option);

// Targets that the loss takes, as far as configuration and options say.
train::TargetKind mlp_targets(const Json& config, const train::RunOptions& run);

}  // namespace headrace::models

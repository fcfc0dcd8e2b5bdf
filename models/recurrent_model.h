// Recurrent language models: embedding, layers of one kind (models/recurrent_cells.h), a linear head with
// cross entropy. Tensors are named as in PyTorch's word_language_model: encoder.weight, rnn.weight_ih_l0,
// ..., decoder.weight, decoder.bias; first values are those of torch.nn.Embedding, RNN/LSTM/GRU and Linear
// (no forget-gate bias of one: PyTorch has none). What a lane carries is state, state.h_l0 and state.c_l0.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/train/model.h"
#include "models/config_json.h"
#include "models/cross_entropy_head.h"

namespace headrace::models {

struct RecurrentConfig {
  std::string cell = "lstm";  // "model_type"
  uint64_t vocab_size = 256, embedding_size = 256, hidden_size = 512, num_layers = 2;
};

// Checks a config.json's object; Error (kUsage) names `origin`.
RecurrentConfig parse_recurrent(const Json& json, const std::string& origin);
Json to_json(const RecurrentConfig& config);

// `lanes`: sequences of a batch.
std::unique_ptr<train::Model> make_recurrent(const RecurrentConfig& config, uint64_t lanes,
                                             LogitsObserver observer = {});

}  // namespace headrace::models

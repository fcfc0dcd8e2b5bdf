// GPT-2 (Radford et al. 2019), as Hugging Face's GPT2LMHeadModel computes it: pre-norm transformer, GELU with
// tanh, learned positions, output projection tied to the token embedding. Tensors bear Hugging Face's names;
// weights of linear layers are stored [out, in] (Hugging Face's Conv1D: [in, out]).
#pragma once

#include <memory>
#include <vector>

#include "engine/train/model.h"
#include "models/cross_entropy_head.h"
#include "models/gpt2_config.h"

namespace headrace::models {

std::vector<storage::TensorSpec> gpt2_tensors(const Gpt2Config& config);

std::unique_ptr<train::Model> make_gpt2(const Gpt2Config& config, LogitsObserver observer = {});

}  // namespace headrace::models

// What a model is, before it has weights: GPT-2's configuration by name or from Hugging Face's config.json.
//
// The names and defaults of the fields are Hugging Face's (GPT2Config), so that their files mean here what
// they mean there. Input is hostile until checked: types, limits and combinations. Failure: Error (kUsage).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "models/config_json.h"

namespace headrace::models {

struct Gpt2Config {
  uint64_t vocab_size = 50257;
  uint64_t n_positions = 1024;
  uint64_t n_embd = 768;
  uint64_t n_layer = 12;
  uint64_t n_head = 12;
  uint64_t n_inner = 3072;  // columns of the hidden layer of the MLP; null in the file: 4 * n_embd
  double layer_norm_epsilon = 1e-5;
  double initializer_range = 0.02;

  friend bool operator==(const Gpt2Config&, const Gpt2Config&) = default;
};

// The sizes that OpenAI published: "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl".
std::span<const std::string> gpt2_names();
Gpt2Config gpt2_by_name(const std::string& name);

// `json`: the object of a config.json, with "model_type" "gpt2". `origin` stands for it in messages; `notes`
// gets, for people, what of the file has no effect here.
Gpt2Config parse_gpt2(const Json& json, const std::string& origin, std::vector<std::string>& notes);
// Of what to_json() wrote.
Gpt2Config gpt2_config(const std::string& text);

// Hugging Face's config.json with every field that matters; gpt2_config() reads it back.
std::string to_json(const Gpt2Config& config);

uint64_t parameter_count(const Gpt2Config& config);  // tied output weights count once
// A sequence longer than n_positions has no position embedding: Error (kUsage).
void check_sequence(const Gpt2Config& config, uint64_t seq);

}  // namespace headrace::models

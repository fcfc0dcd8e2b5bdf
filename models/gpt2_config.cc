#include "models/gpt2_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::models {
namespace {

struct Known {
  std::string name;
  uint64_t n_embd, n_layer, n_head;
};

const std::array<Known, 4>& known_models() {
  static const std::array<Known, 4> models{{{"gpt2", 768, 12, 12},
                                            {"gpt2-medium", 1024, 24, 16},
                                            {"gpt2-large", 1280, 36, 20},
                                            {"gpt2-xl", 1600, 48, 25}}};
  return models;
}

// A field that is a count, under its name and the one that Hugging Face maps to it.
struct CountField {
  const char* name;
  const char* alias;
  uint64_t Gpt2Config::*member;
  uint64_t most;
};

constexpr std::array<CountField, 6> kCounts{{
    {"vocab_size", nullptr, &Gpt2Config::vocab_size, 1ULL << 24},
    {"n_positions", "max_position_embeddings", &Gpt2Config::n_positions, 1ULL << 20},
    {"n_embd", "hidden_size", &Gpt2Config::n_embd, 1ULL << 17},
    {"n_layer", "num_hidden_layers", &Gpt2Config::n_layer, 1ULL << 13},
    {"n_head", "num_attention_heads", &Gpt2Config::n_head, 1ULL << 17},
    {"n_inner", nullptr, &Gpt2Config::n_inner, 1ULL << 20},
}};

// A switch that this model computes in one way only.
struct FixedSwitch {
  const char* name;
  bool supported;
};

constexpr std::array<FixedSwitch, 4> kSwitches{{
    {"tie_word_embeddings", true},
    {"scale_attn_weights", true},
    {"scale_attn_by_inverse_layer_idx", false},
    {"add_cross_attention", false},
}};

constexpr std::array<const char*, 3> kDropouts{"attn_pdrop", "embd_pdrop", "resid_pdrop"};

// Fields of Hugging Face's files that do not change what is computed here; so do those that begin with '_'.
constexpr std::array<const char*, 20> kIgnored{"architectures",
                                               "bos_token_id",
                                               "eos_token_id",
                                               "pad_token_id",
                                               "dtype",
                                               "torch_dtype",
                                               "gradient_checkpointing",
                                               "id2label",
                                               "label2id",
                                               "output_past",
                                               "reorder_and_upcast_attn",
                                               "summary_activation",
                                               "summary_first_dropout",
                                               "summary_proj_to_labels",
                                               "summary_type",
                                               "summary_use_proj",
                                               "task_specific_params",
                                               "transformers_version",
                                               "use_cache",
                                               "vocab_size_or_config_json_file"};

class Reader {
 public:
  Reader(const Json& json, std::string origin) : json_(json), origin_(std::move(origin)) {}

  Gpt2Config read(std::vector<std::string>& notes) {
    check_names();
    Gpt2Config config;
    read_counts(config);
    read_number("layer_norm_epsilon", 1e-12, 1, config.layer_norm_epsilon);
    read_number("initializer_range", 0, 100, config.initializer_range);
    check_activation();
    for (const FixedSwitch& fixed : kSwitches) check_switch(fixed);
    for (const char* name : kDropouts) note_dropout(name, notes);
    return config;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& advice) const {
    throw Error(ErrorKind::kUsage, fmt::format("{}: {}", origin_, problem), advice);
  }

  const Json* find(const char* name) const {
    const auto found = json_.find(name);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  // A mistyped name would silently leave its field at the default.
  void check_names() const {
    std::vector<std::string> used{"model_type", "layer_norm_epsilon", "initializer_range",
                                  "activation_function", "n_ctx"};
    for (const CountField& field : kCounts) {
      used.emplace_back(field.name);
      if (field.alias != nullptr) used.emplace_back(field.alias);
    }
    for (const FixedSwitch& fixed : kSwitches) used.emplace_back(fixed.name);
    for (const char* name : kDropouts) used.emplace_back(name);
    for (const auto& [name, value] : json_.items()) {
      if (name.starts_with('_') || std::find(used.begin(), used.end(), name) != used.end()) continue;
      if (std::find(kIgnored.begin(), kIgnored.end(), name) != kIgnored.end()) continue;
      const std::string near = nearest_name(name, used);
      if (near.empty()) continue;
      fail(fmt::format("'{}' is not known; did you mean '{}'?", printable(name, 60), near),
           "correct the name, or remove it from the file");
    }
  }

  void read_counts(Gpt2Config& config) const {
    bool inner_given = false;
    for (const CountField& field : kCounts) {
      const Json* value = find(field.name);
      if (value == nullptr && field.alias != nullptr) value = find(field.alias);
      if (value == nullptr) continue;
      const bool whole = value->is_number_unsigned();
      if (!whole || value->get<uint64_t>() < 1 || value->get<uint64_t>() > field.most) {
        fail(fmt::format("{} is {}, not a whole number from 1 to {}", field.name, shown(*value), field.most),
             "correct the file");
      }
      config.*field.member = value->get<uint64_t>();
      inner_given = inner_given || field.member == &Gpt2Config::n_inner;
    }
    if (!inner_given) config.n_inner = 4 * config.n_embd;
    if (config.n_embd % config.n_head != 0) {
      fail(fmt::format("n_embd {} is not a multiple of n_head {}", config.n_embd, config.n_head),
           "each head takes an equal part of the embedding; correct the file");
    }
  }

  void read_number(const char* name, double low, double high, double& result) const {
    const Json* value = find(name);
    if (value == nullptr) return;
    const double number = value->is_number() ? value->get<double>() : NAN;
    if (!(number >= low && number <= high)) {
      fail(fmt::format("{} is {}, not a number from {} to {}", name, shown(*value), low, high),
           "correct the file");
    }
    result = number;
  }

  void check_activation() const {
    const Json* value = find("activation_function");
    // The second is PyTorch's name of the same function, GELU by tanh.
    if (value == nullptr || *value == "gelu_new" || *value == "gelu_pytorch_tanh") return;
    fail(fmt::format("activation_function {} is not supported", shown(*value)), "supported: gelu_new");
  }

  void check_switch(const FixedSwitch& fixed) const {
    const Json* value = find(fixed.name);
    if (value == nullptr) return;
    if (!value->is_boolean()) fail(fmt::format("{} is {}, not true or false", fixed.name, shown(*value)), "");
    if (value->get<bool>() == fixed.supported) return;
    fail(fmt::format("{} = {} is not supported", fixed.name, !fixed.supported),
         fmt::format("use a model with {} = {}", fixed.name, fixed.supported));
  }

  void note_dropout(const char* name, std::vector<std::string>& notes) const {
    double rate = 0;
    read_number(name, 0, 1, rate);
    if (rate != 0) notes.push_back(fmt::format("{}: {} = {}: dropout is not applied", origin_, name, rate));
  }

  const Json& json_;
  std::string origin_;
};

}  // namespace

std::span<const std::string> gpt2_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Known& known : known_models()) result.push_back(known.name);
    return result;
  }();
  return names;
}

Gpt2Config gpt2_by_name(const std::string& name) {
  const auto known = std::find_if(known_models().begin(), known_models().end(),
                                  [&](const Known& candidate) { return candidate.name == name; });
  HEADRACE_CHECK(known != known_models().end(), name);
  Gpt2Config config;
  config.n_embd = known->n_embd;
  config.n_layer = known->n_layer;
  config.n_head = known->n_head;
  config.n_inner = 4 * known->n_embd;
  return config;
}

Gpt2Config parse_gpt2(const Json& json, const std::string& origin, std::vector<std::string>& notes) {
  return Reader(json, origin).read(notes);
}

Gpt2Config gpt2_config(const std::string& text) {
  std::vector<std::string> notes;
  return parse_gpt2(Json::parse(text), "the model's configuration", notes);
}

std::string to_json(const Gpt2Config& config) {
  Json json;
  json["model_type"] = "gpt2";
  for (const CountField& field : kCounts) json[field.name] = config.*field.member;
  json["layer_norm_epsilon"] = config.layer_norm_epsilon;
  json["initializer_range"] = config.initializer_range;
  json["activation_function"] = "gelu_new";
  json["tie_word_embeddings"] = true;
  return json.dump();
}

uint64_t parameter_count(const Gpt2Config& c) {
  const uint64_t e = c.n_embd;
  const uint64_t attention = 3 * e * e + 3 * e + e * e + e;
  const uint64_t mlp = 2 * e * c.n_inner + c.n_inner + e;
  const uint64_t norms = 4 * e;
  return (c.vocab_size + c.n_positions) * e + c.n_layer * (attention + mlp + norms) + 2 * e;
}

void check_sequence(const Gpt2Config& config, uint64_t seq) {
  if (seq <= config.n_positions) return;
  throw Error(ErrorKind::kUsage,
              fmt::format("--seq {} is longer than the model's n_positions {}", seq, config.n_positions),
              fmt::format("give a --seq of at most {}", config.n_positions));
}

}  // namespace headrace::models

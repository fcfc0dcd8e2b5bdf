#include "models/model_config.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::models {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLargestFile = 1 << 20;  // bytes of a config.json

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

  ModelConfig read() {
    check_model_type();
    check_names();
    ModelConfig model;
    model.name = origin_;
    read_counts(model.gpt2);
    read_number("layer_norm_epsilon", 1e-12, 1, model.gpt2.layer_norm_epsilon);
    read_number("initializer_range", 0, 100, model.gpt2.initializer_range);
    check_activation();
    for (const FixedSwitch& fixed : kSwitches) check_switch(fixed);
    for (const char* name : kDropouts) note_dropout(name, model.notes);
    return model;
  }

 private:
  [[noreturn]] void fail(const std::string& problem, const std::string& advice) const {
    throw Error(ErrorKind::kUsage, fmt::format("{}: {}", origin_, problem), advice);
  }

  const Json* find(const char* name) const {
    const auto found = json_.find(name);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  static std::string shown(const Json& value) {
    return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace), 60);
  }

  void check_model_type() const {
    static const std::vector<std::string> types{"gpt2"};
    const Json* type = find("model_type");
    if (type == nullptr) fail("has no model_type", R"(write "model_type": "gpt2" into the file)");
    if (!type->is_string()) fail(fmt::format("model_type is {}, not a text", shown(*type)), "known: gpt2");
    const auto name = type->get<std::string>();
    if (std::find(types.begin(), types.end(), name) == types.end()) {
      fail(fmt::format("model_type '{}' is not known", printable(name, 60)), suggestion(name, types));
    }
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

std::string read_config_file(const std::string& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor < 0) {
    throw Error(ErrorKind::kUsage,
                fmt::format("cannot open the model's configuration {}: {}", path, system_text(errno)),
                fmt::format("give --model a config.json, a folder that holds one, or one of {}",
                            joined(model_names())));
  }
  std::string text;
  std::array<char, 4096> part{};
  ssize_t got = 0;
  while (text.size() <= kLargestFile) {
    got = ::read(descriptor, part.data(), part.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(part.data(), static_cast<size_t>(got));
  }
  const int error_number = errno;
  ::close(descriptor);
  if (got < 0) {
    throw Error(ErrorKind::kUsage,
                fmt::format("cannot read the model's configuration {}: {}", path, system_text(error_number)));
  }
  if (text.size() > kLargestFile) {
    throw Error(
        ErrorKind::kUsage,
        fmt::format("the model's configuration {} is longer than {}", path, format_size(kLargestFile)),
        "give --model a config.json as Hugging Face writes it");
  }
  return text;
}

}  // namespace

std::span<const std::string> model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const Known& known : known_models()) result.push_back(known.name);
    return result;
  }();
  return names;
}

ModelConfig load_model(const std::string& model) {
  for (const Known& known : known_models()) {
    if (known.name != model) continue;
    ModelConfig result;
    result.name = model;
    result.gpt2.n_embd = known.n_embd;
    result.gpt2.n_layer = known.n_layer;
    result.gpt2.n_head = known.n_head;
    result.gpt2.n_inner = 4 * known.n_embd;
    return result;
  }
  struct stat status {};
  const bool exists = ::stat(model.c_str(), &status) == 0;
  if (!exists && model.find('/') == std::string::npos && !model.ends_with(".json")) {
    throw Error(
        ErrorKind::kUsage,
        fmt::format("model '{}' is not known; {}", printable(model, 60), suggestion(model, model_names())),
        "give --model a known name, a config.json, or a folder that holds one");
  }
  const std::string path = exists && S_ISDIR(status.st_mode) ? model + "/config.json" : model;
  return parse_model(read_config_file(path), path);
}

ModelConfig parse_model(const std::string& text, const std::string& origin) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    // The library's text after its own prefix: "[json....] parse error at line 1, column 3: ...", or of a
    // number that is too large, "[json....] number overflow parsing '1e999'".
    const std::string_view detail = error.what();
    const size_t end = detail.find("] ");
    throw Error(ErrorKind::kUsage,
                fmt::format("{}: is not JSON: {}", origin,
                            printable(detail.substr(end == detail.npos ? 0 : end + 2))),
                "correct the file");
  }
  if (!json.is_object()) {
    throw Error(ErrorKind::kUsage, fmt::format("{}: is not a JSON object", origin), "correct the file");
  }
  return Reader(json, origin).read();
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

#include "models/registry.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include <nlohmann/json.hpp>

#include "engine/train/text_data.h"
#include "models/gcn_family.h"
#include "models/gpt2.h"
#include "models/gpt2_config.h"
#include "models/mlp_family.h"
#include "models/recurrent_cells.h"
#include "models/recurrent_family.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::models {
namespace {

constexpr size_t kLargestFile = 1 << 20;  // bytes of a config.json

// --- GPT-2 ---

Json gpt2_named(const std::string& name) { return Json::parse(to_json(gpt2_by_name(name))); }

Json complete_gpt2(const Json& json, const std::string& origin, std::vector<std::string>& notes) {
  return Json::parse(to_json(parse_gpt2(json, origin, notes)));
}

Json settle_gpt2(const Json& config, const train::RunOptions& run, const train::DataSet*) {
  check_sequence(gpt2_config(config.dump()), run.seq);
  return config;
}

std::unique_ptr<train::Model> build_gpt2(const Json& config, const train::RunOptions&) {
  return make_gpt2(gpt2_config(config.dump()));
}

std::unique_ptr<train::DataSet> open_text(const Json& config, const DataRequest& request) {
  return std::make_unique<train::TextData>(text_options(config, request));
}

// --- The table ---

std::vector<ModelFamily> make_families() {
  std::vector<ModelFamily> families{
      {.type = "gpt2",
       .names = {gpt2_names().begin(), gpt2_names().end()},
       .help = "transformer language models over text",
       .options = {"seq", "tokenizer"},
       .defaults = {},
       .by_name = gpt2_named,
       .complete = complete_gpt2,
       .settle = settle_gpt2,
       .open = open_text,
       .build = build_gpt2},
  };
  for (const math::RecurrentCell& cell : recurrent_cells()) families.push_back(recurrent_family(cell));
  families.insert(families.end(), {mlp_family(), softmax_regression_family(), gcn_family()});
  return families;
}

// --- Configurations ---

const ModelFamily& family_of_type(const Json& json, const std::string& origin) {
  const auto fail = [&](const std::string& problem, const std::string& advice) {
    return Error(ErrorKind::kUsage, fmt::format("{}: {}", origin, problem), advice);
  };
  std::vector<std::string> types;
  for (const ModelFamily& family : model_families()) types.push_back(family.type);
  const auto type = json.find("model_type");
  if (type == json.end() || type->is_null()) {
    throw fail("has no model_type", fmt::format(R"(write "model_type": "{}" into the file)", types.front()));
  }
  if (!type->is_string()) {
    throw fail(fmt::format("model_type is {}, not a text", shown(*type)),
               fmt::format("known: {}", joined(types)));
  }
  const auto name = type->get<std::string>();
  for (const ModelFamily& family : model_families()) {
    if (family.type == name) return family;
  }
  throw fail(fmt::format("model_type '{}' is not known", printable(name, 60)), suggestion(name, types));
}

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

train::TextDataOptions text_options(const Json& config, const DataRequest& request) {
  return {.path = request.path,
          .seq = request.run.seq,
          .batch = request.run.batch,
          .seed = request.run.seed,
          .vocabulary = config.at("vocab_size").get<uint64_t>()};
}

std::span<const ModelFamily> model_families() {
  static const std::vector<ModelFamily> families = make_families();
  return families;
}

std::span<const std::string> model_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> result;
    for (const ModelFamily& family : model_families()) {
      result.insert(result.end(), family.names.begin(), family.names.end());
    }
    return result;
  }();
  return names;
}

ModelConfig load_model(const std::string& model) {
  for (const ModelFamily& family : model_families()) {
    if (std::find(family.names.begin(), family.names.end(), model) == family.names.end()) continue;
    return {.name = model, .family = &family, .json = family.by_name(model).dump(), .notes = {}};
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
  const Json json = config_object(text, origin);
  ModelConfig config{.name = origin, .family = &family_of_type(json, origin), .json = {}, .notes = {}};
  config.json = config.family->complete(json, origin, config.notes).dump();
  return config;
}

void settle(ModelConfig& config, const train::RunOptions& run, const train::DataSet* data) {
  config.json = config.family->settle(Json::parse(config.json), run, data).dump();
}

std::unique_ptr<train::DataSet> open_data(const ModelConfig& config, const DataRequest& request) {
  return config.family->open(Json::parse(config.json), request);
}

std::unique_ptr<train::Model> build_model(const ModelConfig& config, const train::RunOptions& run) {
  return config.family->build(Json::parse(config.json), run);
}

}  // namespace headrace::models

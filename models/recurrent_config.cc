#include <algorithm>
#include <array>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "models/recurrent_model.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::models {
namespace {

struct CountField {
  const char* name;
  uint64_t RecurrentConfig::*member;
  uint64_t most;
};

constexpr std::array<CountField, 4> kCounts{{
    {"vocab_size", &RecurrentConfig::vocab_size, 1ULL << 24},
    {"embedding_size", &RecurrentConfig::embedding_size, 1ULL << 17},
    {"hidden_size", &RecurrentConfig::hidden_size, 1ULL << 17},
    {"num_layers", &RecurrentConfig::num_layers, 1ULL << 12},
}};

// A mistyped name would silently leave its field at the default.
void check_names(const Json& json, const std::string& origin) {
  std::vector<std::string> known{"model_type", "dropout"};
  for (const CountField& field : kCounts) known.emplace_back(field.name);
  for (const auto& [name, value] : json.items()) {
    if (name.starts_with('_') || std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw Error(ErrorKind::kUsage, fmt::format("{}: '{}' is not known", origin, printable(name, 60)),
                suggestion(name, known));
  }
}

}  // namespace

RecurrentConfig parse_recurrent(const Json& json, const std::string& origin) {
  check_names(json, origin);
  RecurrentConfig config;
  config.cell = json.at("model_type").get<std::string>();
  for (const CountField& field : kCounts) {
    const auto value = json.find(field.name);
    if (value == json.end()) continue;
    if (!value->is_number_unsigned() || value->get<uint64_t>() < 1 || value->get<uint64_t>() > field.most)
      throw Error(ErrorKind::kUsage,
                  fmt::format("{}: {} is {}, not a whole number from 1 to {}", origin, field.name,
                              shown(*value), field.most),
                  "correct the file");
    config.*field.member = value->get<uint64_t>();
  }
  const auto dropout = json.find("dropout");
  if (dropout != json.end() && (!dropout->is_number() || dropout->get<double>() != 0))
    throw Error(ErrorKind::kUsage,
                fmt::format("{}: dropout is {}, and recurrent models have none", origin, shown(*dropout)),
                "write 0, or remove it from the file");
  return config;
}

Json to_json(const RecurrentConfig& config) {
  Json json;
  json["model_type"] = config.cell;
  for (const CountField& field : kCounts) json[field.name] = config.*field.member;
  json["dropout"] = 0;
  return json;
}

}  // namespace headrace::models

#include "models/mlp_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::models {
namespace {

constexpr uint64_t kWidest = uint64_t{1} << 24, kMostLayers = 1024, kMostParameters = uint64_t{1} << 40;
constexpr const char* kRegression = "softmax-regression";

const std::array<std::string, 3> kLosses{"cross_entropy", "mse", "bce"};
constexpr std::array<train::TargetKind, 3> kTargets{train::TargetKind::kClasses, train::TargetKind::kValues,
                                                    train::TargetKind::kShares};

Error unusable(const std::string& problem, const std::string& advice) {
  return Error(ErrorKind::kUsage, problem, advice);
}

void check_width(const Json& value, const std::string& name) {
  const bool whole = value.is_number_unsigned();
  if (!whole || value.get<uint64_t>() < 1 || value.get<uint64_t>() > kWidest)
    throw unusable(fmt::format("{} is {}, not a whole number from 1 to {}", name, shown(value), kWidest),
                   "correct the width");
}

void check_name(const Json& value, const std::string& name, std::span<const std::string> known) {
  if (!value.is_string())
    throw unusable(fmt::format("{} is {}, not a text", name, shown(value)),
                   fmt::format("known: {}", joined(known)));
  const auto text = value.get<std::string>();
  if (std::find(known.begin(), known.end(), text) == known.end())
    throw unusable(fmt::format("{} is '{}', which is not known", name, printable(text, 60)),
                   suggestion(text, known));
}

void check_hidden(const Json& value, const std::string& name) {
  if (!value.is_array() || value.size() > kMostLayers)
    throw unusable(fmt::format("{} is {}, not a list of at most {} widths", name, shown(value), kMostLayers),
                   "write [256, 128], or [] for none");
  for (const Json& width : value) check_width(width, name);
}

void check_dropout(const Json& value, const std::string& name) {
  const double rate = value.is_number() ? value.get<double>() : -1;
  if (!(rate >= 0 && rate <= train::kMostDropout))
    throw unusable(
        fmt::format("{} is {}, not a number from 0 to {}", name, shown(value), train::kMostDropout),
        "correct the rate; 0 drops nothing");
}

// A field gets its value, or must have it already.
void agree(Json& config, const std::string& field, const Json& value, const std::string& who,
           const std::string& advice) {
  const auto found = config.find(field);
  if (found == config.end()) {
    config[field] = value;
  } else if (*found != value) {
    throw unusable(fmt::format("the model's {} is {}, but {} {}", field, shown(*found), who, shown(value)),
                   advice);
  }
}

void settle_options(Json& config, const train::RunOptions& run) {
  const auto option = [&](const std::string& field, const std::string& name, const Json& value) {
    agree(config, field, value, fmt::format("--{} says", name), "say it once");
  };
  if (!run.hidden.empty()) option("hidden", "hidden", hidden_of(run.hidden));
  if (!run.activation.empty()) option("activation", "activation", run.activation);
  if (!run.norm.empty()) option("norm", "norm", run.norm);
  if (run.dropout) option("dropout", "dropout", *run.dropout);
  if (!run.loss.empty()) option("loss", "loss", run.loss);
}

void settle_data(Json& config, const train::DataShape& shape) {
  agree(config, "features", shape.feature_columns, "the data's number of features is",
        "give data of the kind that the model takes");
  const bool classes = shape.classes > 0;
  if (!config.contains("loss")) config["loss"] = classes ? "cross_entropy" : "mse";
  const bool wants_classes = config["loss"] == "cross_entropy";
  if (wants_classes != classes)
    throw unusable(fmt::format("the loss {} wants {}, and the data have {}", shown(config["loss"]),
                               wants_classes ? "classes" : "values", classes ? "classes" : "values"),
                   "give another --loss");
  if (classes && config.contains("outputs")) {
    if (shape.classes > config["outputs"].get<uint64_t>())
      throw unusable(fmt::format("the data have {} classes, and the model has {} outputs", shape.classes,
                                 shown(config["outputs"])),
                     "give data of the kind that the model takes");
    return;
  }
  agree(config, "outputs", classes ? shape.classes : shape.value_columns, "the data's number of targets is",
        "give data of the kind that the model takes");
}

}  // namespace

Json hidden_of(const std::string& option) {
  Json widths = Json::array();
  for (size_t first = 0; first <= option.size();) {
    const size_t end = std::min(option.find(',', first), option.size());
    const auto width = parse_count(std::string_view(option).substr(first, end - first));
    if (!width)
      throw unusable(fmt::format("--hidden is '{}', not widths of layers", printable(option, 60)),
                     "write them with commas between: --hidden 256,128");
    widths.push_back(*width);
    first = end + 1;
  }
  check_hidden(widths, "--hidden");
  return widths;
}

Json complete_mlp(const Json& json, const std::string& origin, std::vector<std::string>&) {
  static const std::array<std::string, 8> known{"model_type", "features", "hidden",  "outputs",
                                                "activation", "norm",     "dropout", "loss"};
  Json config;
  for (const auto& [name, value] : json.items()) {
    if (name.starts_with('_')) continue;
    if (std::find(known.begin(), known.end(), name) == known.end())
      throw unusable(fmt::format("{}: '{}' is not known", origin, printable(name, 60)),
                     suggestion(name, known));
    if (!value.is_null()) config[name] = value;
  }
  const auto check = [&](const char* name, const auto& checker) {
    if (config.contains(name)) checker(config[name], fmt::format("{}: {}", origin, name));
  };
  check("features", check_width);
  check("outputs", check_width);
  check("hidden", check_hidden);
  check("activation",
        [](const Json& value, const std::string& name) { check_name(value, name, activation_names()); });
  check("norm", [](const Json& value, const std::string& name) { check_name(value, name, norm_names()); });
  check("dropout", check_dropout);
  check("loss", [](const Json& value, const std::string& name) { check_name(value, name, kLosses); });
  if (config["model_type"] == kRegression) {
    agree(config, "hidden", Json::array(), "softmax regression has", R"(take "model_type": "mlp")");
    agree(config, "loss", "cross_entropy", "softmax regression has", R"(take "model_type": "mlp")");
    for (const char* field : {"dropout", "norm"})
      if (config.contains(field))
        throw unusable(fmt::format("{}: softmax regression has no hidden layers for {}", origin, field),
                       R"(leave it out, or take "model_type": "mlp")");
  }
  return config;
}

Json settle_mlp(const Json& given, const train::RunOptions& run, const train::DataSet* data) {
  Json config = given;
  settle_options(config, run);
  if (!config.contains("hidden")) config["hidden"] = Json::array({128});
  if (!config.contains("activation")) config["activation"] = "relu";
  check_name(config.value("norm", Json("none")), "the model's norm",
             norm_names());  // an option's is any text
  const NormKind* norm = norm_by_name(config.value("norm", "none"));
  if (norm != nullptr && run.batch < norm->least_rows)
    throw unusable(fmt::format("the norm '{}' takes steps of at least {} rows, and --batch is {}", norm->name,
                               norm->least_rows, run.batch),
                   "give a larger --batch, or another --norm");
  if (data != nullptr) settle_data(config, data->shape());
  return config;
}

namespace {

// Tables of blocks grow with them, before any budget is looked at.
void check_parameters(const MlpConfig& config) {
  uint64_t parameters = 0, in = config.features;  // at most 1025 times 2^48
  for (const uint64_t out : config.hidden) parameters += std::exchange(in, out) * out;
  parameters += in * config.outputs;
  if (parameters > kMostParameters)
    throw unusable(
        fmt::format("the model has {} parameters, and at most {} are possible", parameters, kMostParameters),
        "take fewer or narrower layers");
}

}  // namespace

MlpConfig mlp_config(const Json& config) {
  for (const char* field : {"features", "outputs"})
    if (!config.contains(field))
      throw unusable(fmt::format("the model's number of {} is not known", field),
                     R"(name data with --data, or a config.json with "features" and "outputs")");
  MlpConfig result;
  result.features = config["features"].get<uint64_t>();
  result.outputs = config["outputs"].get<uint64_t>();
  for (const Json& width : config["hidden"]) result.hidden.push_back(width.get<uint64_t>());
  result.activation = activation_by_name(config["activation"].get<std::string>());
  result.norm = norm_by_name(config.value("norm", "none"));
  result.dropout = config.value("dropout", 0.0);
  const auto loss = config.value("loss", kLosses[0]);
  result.loss = Loss(std::find(kLosses.begin(), kLosses.end(), loss) - kLosses.begin());
  check_parameters(result);
  return result;
}

train::TargetKind mlp_targets(const Json& config, const train::RunOptions& run) {
  const std::string loss = run.loss.empty() ? config.value("loss", std::string()) : run.loss;
  const auto known = std::find(kLosses.begin(), kLosses.end(), loss);
  return known == kLosses.end() ? train::TargetKind::kAny : kTargets[size_t(known - kLosses.begin())];
}

}  // namespace headrace::models

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>

#include "engine/inspect/dequantized.h"
#include "engine/train/pruning.h"
#include "engine/train/run_options.h"
#include "storage/error.h"
#include "storage/json.h"
#include "storage/tensor_values.h"
#include "storage/text.h"
#include "tools/inspect_report.h"
#include "tools/run_input.h"

namespace headrace::tools {
namespace {

using nlohmann::ordered_json;
using storage::SourceInfo;
using storage::SourceTensor;
using storage::TensorSource;

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::vector<std::string> lengths;
  lengths.reserve(shape.size());
  for (const uint64_t length : shape) lengths.push_back(std::to_string(length));
  return "[" + joined(lengths) + "]";
}

std::string type_of(const SourceTensor& tensor) {
  const auto fields = storage::value_fields(tensor);
  if (!fields.empty()) return storage::element_type_name(fields[0].type);
  return tensor.planes.empty() ? "?" : printable(tensor.planes[0].name, 16);
}

// The model in the kept configuration, as JSON; null where there is none.
ordered_json model_of(const SourceInfo& info) {
  const auto parsed = parse_json<ordered_json>(info.model_json);
  return parsed.is_object() && parsed.contains("model") ? parsed["model"] : ordered_json();
}

// What the kept options say of pruning; empty where there is none.
std::string pruning_of(const SourceInfo& info) {
  if (!info.step) return {};
  train::RunOptions options;
  try {
    options = kept_options(info.model_json);
  } catch (const Error&) {
    return {};  // of a later version, perhaps: the list is of use without
  }
  if (options.prune_sparsity == 0) return {};
  return fmt::format("pruning: to a sparsity of {} at step {}; {:.4g} by now\n", options.prune_sparsity,
                     std::max(options.prune_begin, options.prune_end),
                     train::sparsity_at(options, *info.step));
}

// What is quantized; empty where nothing is.
std::string quantization_of(const TensorSource& source) {
  uint64_t tensors = 0, weights = 0;
  const std::vector<std::optional<size_t>> scales = inspect::scales_of(source);
  for (size_t i = 0; i < scales.size(); i++) {
    if (!scales[i]) continue;
    tensors++;
    weights += source.tensors()[i].elements;
  }
  if (tensors == 0) return {};
  return fmt::format("quantization: {} weights of {} tensors in int8, with a scale a row\n", weights,
                     tensors);
}

bool weights_only(const std::vector<size_t>& selected, const TensorSource& source) {
  return std::all_of(selected.begin(), selected.end(), [&](size_t i) {
    const auto& planes = source.tensors()[i].planes;
    return std::all_of(planes.begin(), planes.end(),
                       [](const auto& plane) { return plane.name.starts_with("weight."); });
  });
}

// Names of what the model has beside parameters: state, and tensors of the data. Of a model that cannot be
// built none are known.
std::set<std::string> names_beside_parameters(const SourceInfo& info) {
  std::set<std::string> names;
  try {
    const auto model = models::build_model(kept_config(info.model_json), train::RunOptions());
    const std::vector<storage::TensorSpec> specs = model->tensors();
    for (storage::TensorId id = 0; id < specs.size(); id++) {
      if (specs[id].slots == 2 && !model->is_state(id)) continue;
      for (const storage::TensorPart& part : specs[id].parts) names.insert(part.name);
    }
  } catch (const std::exception&) {
    names.clear();
  }
  return names;
}

uint64_t parameters_among(const std::vector<size_t>& selected, const TensorSource& source) {
  const std::set<std::string> others = names_beside_parameters(source.info());
  uint64_t count = 0;
  for (const size_t i : selected)
    if (!others.contains(source.tensors()[i].name)) count += source.tensors()[i].elements;
  return count;
}

std::string headline(const SourceInfo& info, const std::vector<size_t>& selected,
                     const TensorSource& source) {
  const uint64_t parameters = parameters_among(selected, source);
  uint64_t bytes = 0, stored = 0;
  for (const size_t i : selected) {
    bytes += source.tensors()[i].bytes;
    stored += source.tensors()[i].stored_bytes;
  }
  std::string text = printable(info.path) + ": ";
  if (info.kind != "run") text += info.kind + ", ";
  if (info.step) text += fmt::format("step {}, ", *info.step);
  const ordered_json model = model_of(info);
  if (model.is_object() && model.contains("model_type") && model["model_type"].is_string())
    text += printable(model["model_type"].get<std::string>(), 60) + ", ";
  text += fmt::format("{} parameters ({}), {}", parameters, format_count(static_cast<double>(parameters)),
                      format_size(bytes));
  if (info.step)
    text += weights_only(selected, source) ? " of parameters" : " of parameters and optimizer state";
  if (stored != bytes) {
    text += fmt::format(", {} on disk ({:.1f}%)", format_size(stored),
                        100 * static_cast<double>(stored) / static_cast<double>(bytes));
  }
  if (selected.size() < source.tensors().size())
    text += fmt::format(", in {} of {} tensors", selected.size(), source.tensors().size());
  return text + "\n";
}

double ratio(const SourceTensor& tensor) {
  return tensor.bytes == 0 ? 1 : static_cast<double>(tensor.stored_bytes) / static_cast<double>(tensor.bytes);
}

}  // namespace

bool TensorFilter::matches(const std::string& name) const {
  return patterns_.empty() ||
         std::any_of(patterns_.begin(), patterns_.end(), [&](const std::string& pattern) {
           return ::fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
         });
}

std::vector<size_t> TensorFilter::select(const TensorSource& source) const {
  std::vector<size_t> selected;
  for (size_t i = 0; i < source.tensors().size(); i++) {
    if (matches(source.tensors()[i].name)) selected.push_back(i);
  }
  for (const std::string& pattern : patterns_) {
    const TensorFilter one({pattern});
    if (std::any_of(selected.begin(), selected.end(),
                    [&](size_t i) { return one.matches(source.tensors()[i].name); })) {
      continue;
    }
    throw Error(ErrorKind::kUsage,
                fmt::format("no tensor of {} matches --tensors '{}'", printable(source.info().path),
                            printable(pattern, 60)),
                "patterns are a shell's: 'h.*.attn.*'; without --tensors all are listed");
  }
  return selected;
}

std::string listing(const TensorSource& source, const std::vector<size_t>& selected) {
  const SourceInfo& info = source.info();
  std::string text = headline(info, selected, source);
  size_t name_width = 0, shape_width = 0;
  bool compressed = false;
  for (const size_t i : selected) {
    const SourceTensor& tensor = source.tensors()[i];
    name_width = std::max(name_width, tensor.name.size());
    shape_width = std::max(shape_width, shape_text(tensor.shape).size());
    compressed = compressed || tensor.stored_bytes != tensor.bytes;
  }
  for (const size_t i : selected) {
    const SourceTensor& tensor = source.tensors()[i];
    fmt::format_to(std::back_inserter(text), "{:<{}}  {:<{}}  {:<7}{:>11}", printable(tensor.name),
                   name_width, shape_text(tensor.shape), shape_width, type_of(tensor),
                   format_size(tensor.bytes));
    if (compressed) {
      fmt::format_to(std::back_inserter(text), "{:>12}{:>7.1f}%", format_size(tensor.stored_bytes),
                     100 * ratio(tensor));
    }
    text += '\n';
  }
  text += pruning_of(info);
  text += quantization_of(source);
  for (const std::string& fault : info.faults) text += "note: " + printable(fault, 1000) + "\n";
  return text;
}

std::string listing_json(const TensorSource& source, const std::vector<size_t>& selected) {
  const SourceInfo& info = source.info();
  ordered_json json;
  json["path"] = info.path;
  json["kind"] = info.kind;
  if (info.step) json["step"] = *info.step;
  if (const ordered_json model = model_of(info); !model.is_null()) json["model"] = model;
  ordered_json& tensors = json["tensors"] = ordered_json::array();
  uint64_t elements = 0, bytes = 0, stored = 0;
  for (const size_t i : selected) {
    const SourceTensor& tensor = source.tensors()[i];
    ordered_json planes = ordered_json::array();
    for (const storage::SourcePlane& plane : tensor.planes) planes.push_back(plane.name);
    tensors.push_back({{"name", tensor.name},
                       {"shape", tensor.shape},
                       {"type", type_of(tensor)},
                       {"elements", tensor.elements},
                       {"bytes", tensor.bytes},
                       {"stored_bytes", tensor.stored_bytes},
                       {"planes", std::move(planes)}});
    elements += tensor.elements;
    bytes += tensor.bytes;
    stored += tensor.stored_bytes;
  }
  json["elements"] = elements;
  json["parameters"] = parameters_among(selected, source);
  json["bytes"] = bytes;
  json["stored_bytes"] = stored;
  json["faults"] = info.faults;
  return json.dump(-1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

bool writes_utf8() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    std::string text(value);
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text.find("utf-8") != std::string::npos || text.find("utf8") != std::string::npos;
  }
  return false;
}

}  // namespace headrace::tools

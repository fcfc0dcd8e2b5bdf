#include "storage/catalog_json.h"

#include <limits>
#include <stdexcept>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "storage/json.h"

namespace headrace::storage {
namespace {

using nlohmann::json;

// Names that are not UTF-8 are the user's: model files come from outside.
std::string dump(const json& value) {
  try {
    return value.dump();
  } catch (const json::type_error&) {
    throw Error(ErrorKind::kUsage, "a tensor's name or a path is not UTF-8 text");
  }
}

json parse(std::string_view text) {
  json value = parse_json<json>(text);
  if (value.is_discarded()) throw std::invalid_argument("a value is no JSON");
  return value;
}

// A whole number that T holds. nlohmann::json would convert any number, and cut off what does not fit.
template <typename T>
T number(const json& value, const char* what) {
  if (!value.is_number_unsigned() || value.get<uint64_t>() > std::numeric_limits<T>::max())
    throw std::out_of_range(fmt::format("'{}' is no number that it can be", what));
  return value.get<T>();
}

template <typename T>
T number_at(const json& entry, const char* key) {
  return number<T>(entry.at(key), key);
}

std::vector<uint64_t> shape_at(const json& entry) {
  std::vector<uint64_t> shape;
  for (const json& extent : entry.at("shape")) shape.push_back(number<uint64_t>(extent, "shape"));
  return shape;
}

}  // namespace

std::string tensors_to_json(std::span<const TensorSpec> tensors) {
  json table = json::array();
  for (const TensorSpec& tensor : tensors) {
    json planes = json::array(), parts = json::array();
    for (const Plane& plane : tensor.planes) {
      planes.push_back({{"name", plane.name}, {"element_bytes", plane.element_bytes}});
      if (plane.group != 1) planes.back()["group"] = plane.group;
    }
    for (const TensorPart& part : tensor.parts) {
      parts.push_back({{"name", part.name}, {"shape", part.shape}, {"first_element", part.first_element}});
    }
    table.push_back({{"name", tensor.name},
                     {"rows", tensor.rows},
                     {"columns", tensor.columns},
                     {"block_rows", tensor.block_rows},
                     {"slots", tensor.slots},
                     {"planes", std::move(planes)},
                     {"parts", std::move(parts)}});
  }
  return dump(table);
}

std::vector<TensorSpec> tensors_from_json(std::string_view text) {
  std::vector<TensorSpec> tensors;
  for (const json& entry : parse(text)) {
    TensorSpec tensor;
    entry.at("name").get_to(tensor.name);
    tensor.rows = number_at<uint64_t>(entry, "rows");
    tensor.columns = number_at<uint64_t>(entry, "columns");
    tensor.block_rows = number_at<uint64_t>(entry, "block_rows");
    tensor.slots = number_at<uint32_t>(entry, "slots");
    for (const json& plane : entry.at("planes")) {
      const uint32_t group = plane.contains("group") ? number_at<uint32_t>(plane, "group") : 1;
      tensor.planes.push_back({plane.at("name"), number_at<uint32_t>(plane, "element_bytes"), group});
    }
    for (const json& part : entry.at("parts")) {
      tensor.parts.push_back({part.at("name"), shape_at(part), number_at<uint64_t>(part, "first_element")});
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::string shard_to_json(const ShardRecord& shard) {
  return dump({{"path", shard.path}, {"file_bytes", shard.file_bytes}, {"structure", shard.structure}});
}

ShardRecord shard_from_json(std::string_view text) {
  const json entry = parse(text);
  return {entry.at("path"), number_at<uint64_t>(entry, "file_bytes"), entry.at("structure")};
}

std::string home_to_json(const HomeRecord& home) {
  return dump({{"path", home.path}, {"device", home.device}, {"inode", home.inode}});
}

HomeRecord home_from_json(std::string_view text) {
  const json entry = parse(text);
  return {entry.at("path"), number_at<uint64_t>(entry, "device"), number_at<uint64_t>(entry, "inode")};
}

}  // namespace headrace::storage

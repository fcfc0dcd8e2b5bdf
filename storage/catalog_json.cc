#include "storage/catalog_json.h"

#include <nlohmann/json.hpp>

#include "storage/error.h"

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

}  // namespace

std::string tensors_to_json(std::span<const TensorSpec> tensors) {
  json table = json::array();
  for (const TensorSpec& tensor : tensors) {
    json planes = json::array(), parts = json::array();
    for (const Plane& plane : tensor.planes) {
      planes.push_back({{"name", plane.name}, {"element_bytes", plane.element_bytes}});
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
  for (const json& entry : json::parse(text)) {
    TensorSpec tensor;
    entry.at("name").get_to(tensor.name);
    entry.at("rows").get_to(tensor.rows);
    entry.at("columns").get_to(tensor.columns);
    entry.at("block_rows").get_to(tensor.block_rows);
    entry.at("slots").get_to(tensor.slots);
    for (const json& plane : entry.at("planes")) {
      tensor.planes.push_back({plane.at("name"), plane.at("element_bytes")});
    }
    for (const json& part : entry.at("parts")) {
      tensor.parts.push_back({part.at("name"), part.at("shape"), part.at("first_element")});
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

std::string shard_to_json(const ShardRecord& shard) {
  return dump({{"path", shard.path}, {"file_bytes", shard.file_bytes}, {"structure", shard.structure}});
}

ShardRecord shard_from_json(std::string_view text) {
  const json entry = json::parse(text);
  return {entry.at("path"), entry.at("file_bytes"), entry.at("structure")};
}

std::string home_to_json(const HomeRecord& home) {
  return dump({{"path", home.path}, {"device", home.device}, {"inode", home.inode}});
}

HomeRecord home_from_json(std::string_view text) {
  const json entry = json::parse(text);
  return {entry.at("path"), entry.at("device"), entry.at("inode")};
}

}  // namespace headrace::storage

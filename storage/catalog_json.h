// The catalog's fixed parts as JSON text: the tensor table and the shards. For catalog.cc only.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "storage/catalog.h"

namespace headrace::storage {

std::string tensors_to_json(std::span<const TensorSpec> tensors);
std::string shard_to_json(const ShardRecord& shard);
std::string home_to_json(const HomeRecord& home);
// Throw exceptions of nlohmann or the standard library for text that is none of ours.
std::vector<TensorSpec> tensors_from_json(std::string_view text);
ShardRecord shard_from_json(std::string_view text);
HomeRecord home_from_json(std::string_view text);

}  // namespace headrace::storage

// The text of a config.json as a JSON object. Failure: Error (kUsage) with line and column.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace headrace::models {

using Json = nlohmann::ordered_json;

// `origin` stands for the text in messages.
Json config_object(const std::string& text, const std::string& origin);

// A value of it, for messages.
std::string shown(const Json& value);

}  // namespace headrace::models

// A configuration file as a list of keys with values and places: the one place that knows the TOML library.
// What the keys mean is the caller's business. Failure: Error (kUsage) with file, line and column.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace headrace::tools {

enum class ConfigValueType { kText, kInteger, kNumber, kSwitch, kTextList };

struct ConfigEntry {
  std::string key;
  ConfigValueType type = ConfigValueType::kText;
  std::vector<std::string> texts;  // one, but for a list; numbers read back exactly
  std::string place;               // "FILE:LINE:COLUMN"
};

std::string type_name(ConfigValueType type);

// The keys of the file in the order in which they stand. Tables and dates are refused: no option is one.
std::vector<ConfigEntry> read_config_file(const std::string& path);
std::vector<ConfigEntry> parse_config(const std::string& text, const std::string& path);

}  // namespace headrace::tools

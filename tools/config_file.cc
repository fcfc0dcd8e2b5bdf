#include "tools/config_file.h"

#include <stdexcept>

// The library is compiled into this file, and what it asserts becomes an exception: version 3.3 asserts where
// it should report a syntax error (a control character where a key stands is enough), and without assertions
// goes on with undefined behaviour.
[[noreturn]] static void assertion_of_toml_failed() { throw std::logic_error("invalid syntax"); }
#undef NDEBUG
#define TOML_HEADER_ONLY 1
#define TOML_ASSERT(condition) ((condition) ? void() : assertion_of_toml_failed())
#include <toml++/toml.h>

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "engine/train/option_entry.h"
#include "storage/error.h"
#include "storage/text.h"

namespace headrace::tools {
namespace {

constexpr size_t kLargestFile = 1 << 20;  // bytes

std::string place_of(const std::string& path, const toml::source_region& region) {
  return fmt::format("{}:{}:{}", path, region.begin.line, region.begin.column);
}

Error wrong(const std::string& place, const std::string& what) {
  return Error(ErrorKind::kUsage, fmt::format("{}: {}", place, what), "correct the configuration file");
}

ConfigEntry entry_of(const std::string& path, std::string_view key, const toml::node& node) {
  ConfigEntry entry;
  entry.key = key;
  entry.place = place_of(path, node.source());
  if (const auto* text = node.as_string()) {
    entry.texts = {text->get()};
  } else if (const auto* integer = node.as_integer()) {
    entry.type = ConfigValueType::kInteger;
    entry.texts = {std::to_string(integer->get())};
  } else if (const auto* number = node.as_floating_point()) {
    entry.type = ConfigValueType::kNumber;
    entry.texts = {train::number_text(number->get())};
  } else if (const auto* flag = node.as_boolean()) {
    entry.type = ConfigValueType::kSwitch;
    entry.texts = {flag->get() ? "true" : "false"};
  } else if (const auto* list = node.as_array()) {
    entry.type = ConfigValueType::kTextList;
    for (const toml::node& item : *list) {
      if (!item.is_string()) throw wrong(place_of(path, item.source()), "a list may hold only texts");
      entry.texts.push_back(item.as_string()->get());
    }
  } else {
    throw wrong(entry.place, fmt::format("'{}' is a {}; no option is one", printable(key, 60),
                                         node.is_table() ? "table" : "date or time"));
  }
  return entry;
}

// The line at which the library's assertion fails. The parser goes from front to back, so the text up to and
// with this line fails likewise, and the text before it does not.
size_t asserting_line(const std::string& text) {
  std::vector<size_t> ends;  // of the lines
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\n') ends.push_back(i + 1);
  }
  ends.push_back(text.size());
  auto asserts = [&](size_t end) {
    try {
      static_cast<void>(toml::parse(std::string_view(text).substr(0, end)));
    } catch (const toml::parse_error&) {
      return false;
    } catch (const std::logic_error&) {
      return true;
    }
    return false;
  };
  const auto first =
      std::partition_point(ends.begin(), ends.end() - 1, [&](size_t end) { return !asserts(end); });
  return static_cast<size_t>(first - ends.begin()) + 1;
}

}  // namespace

std::string type_name(ConfigValueType type) {
  switch (type) {
    case ConfigValueType::kText:
      return "a text";
    case ConfigValueType::kInteger:
      return "a whole number";
    case ConfigValueType::kNumber:
      return "a number";
    case ConfigValueType::kSwitch:
      return "true or false";
    case ConfigValueType::kTextList:
      return "a list of texts";
  }
  return {};
}

std::vector<ConfigEntry> parse_config(const std::string& text, const std::string& path) {
  toml::table table;
  try {
    table = toml::parse(text, path);
  } catch (const toml::parse_error& error) {
    throw wrong(place_of(path, error.source()), printable(error.description()));
  } catch (const std::logic_error& error) {
    throw wrong(fmt::format("{}:{}", path, asserting_line(text)), error.what());
  }
  std::vector<std::pair<toml::source_position, ConfigEntry>> found;
  for (const auto& [key, node] : table) {
    found.emplace_back(node.source().begin, entry_of(path, key.str(), node));
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<ConfigEntry> entries;
  entries.reserve(found.size());
  for (auto& [position, entry] : found) entries.push_back(std::move(entry));
  return entries;
}

std::vector<ConfigEntry> read_config_file(const std::string& path) {
  auto unreadable = [&](int error_number) {
    return Error(ErrorKind::kUsage,
                 fmt::format("cannot read the configuration file {}: {}", path, system_text(error_number)),
                 "name a readable TOML file");
  };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), &std::fclose);
  if (file == nullptr) throw unreadable(errno);
  std::string text(kLargestFile + 1, '\0');
  errno = 0;
  text.resize(std::fread(text.data(), 1, text.size(), file.get()));
  if (std::ferror(file.get()) != 0) throw unreadable(errno);
  if (text.size() > kLargestFile) {
    throw Error(ErrorKind::kUsage,
                fmt::format("the configuration file {} is longer than {}", path, format_size(kLargestFile)));
  }
  return parse_config(text, path);
}

}  // namespace headrace::tools

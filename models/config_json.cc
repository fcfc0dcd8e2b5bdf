#include "models/config_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "storage/error.h"
#include "storage/json.h"
#include "storage/text.h"

namespace headrace::models {

Json config_object(const std::string& text, const std::string& origin) {
  if (nests_too_deep(text))
    throw Error(ErrorKind::kUsage, fmt::format("{}: it nests deeper than {}", origin, kMostJsonNesting),
                "correct the file");
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    // The library's text after its own prefix: "[json....] parse error at line 1, column 3: ...", or of a
    // number that is too large, "[json....] number overflow parsing '1e999'".
    const std::string_view detail = error.what();
    const size_t end = detail.find("] ");
    throw Error(ErrorKind::kUsage,
                fmt::format("{}: is not JSON: {}", origin,
                            printable(detail.substr(end == detail.npos ? 0 : end + 2))),
                "correct the file");
  }
  if (!json.is_object()) {
    throw Error(ErrorKind::kUsage, fmt::format("{}: is not a JSON object", origin), "correct the file");
  }
  return json;
}

std::string shown(const Json& value) {
  return printable(value.dump(-1, ' ', true, Json::error_handler_t::replace), 60);
}

}  // namespace headrace::models

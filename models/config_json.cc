#include "models/config_json.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::models {

Json config_object(const std::string& text, const std::string& origin) {
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

}  // namespace headrace::models

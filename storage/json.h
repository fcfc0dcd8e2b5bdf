// JSON from outside. nlohmann's parser takes any depth, but printing, copying and comparing a value recurse:
// of a megabyte of '[' they overrun the stack. So text that nests deeper than anything here does is not
// parsed.
#pragma once

#include <string_view>

namespace headrace {

inline constexpr int kMostJsonNesting = 64;

// Whether lists and objects nest deeper than that. Of text that is no JSON the answer means nothing.
bool nests_too_deep(std::string_view text);

// `Json`: nlohmann::json, or ordered_json. The value is discarded (is_discarded()) where the text is no JSON
// or nests too deep.
template <class Json>
Json parse_json(std::string_view text) {
  if (nests_too_deep(text)) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, false);
}

}  // namespace headrace

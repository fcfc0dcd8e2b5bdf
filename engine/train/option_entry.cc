#include "engine/train/option_entry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace headrace::train {
namespace {

std::string quoted(std::string_view text) { return fmt::format("'{}'", printable(text, 60)); }

std::string bounds(uint64_t low, uint64_t high, bool sizes) {
  auto shown = [&](uint64_t value) { return sizes ? exact_size(value) : std::to_string(value); };
  if (high == std::numeric_limits<uint64_t>::max())
    return low == 0 ? "" : fmt::format(" of at least {}", shown(low));
  return fmt::format(" from {} to {}", shown(low), shown(high));
}

// Well-formed as RFC 3629 has it, but for surrogates and overlong forms, which do no harm here.
bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const size_t length = lead < 0x80   ? 1
                          : lead < 0xc2 ? 0
                          : lead < 0xe0 ? 2
                          : lead < 0xf0 ? 3
                          : lead < 0xf5 ? 4
                                        : 0;
    if (length == 0 || i + length > text.size()) return false;
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    }
    i += length;
  }
  return true;
}

}  // namespace

std::string describe(NumberRange range) {
  std::string text = fmt::format("{} {}", range.low_allowed ? "of at least" : "above", range.low);
  if (!std::isinf(range.high))
    text += fmt::format(" and {} {}", range.high_allowed ? "at most" : "below", range.high);
  return text;
}

std::string set_number(std::string_view text, NumberRange range, double& value) {
  const auto number = parse_number(text);
  const bool low_kept = number && (range.low_allowed ? *number >= range.low : *number > range.low);
  const bool high_kept = number && (range.high_allowed ? *number <= range.high : *number < range.high);
  if (!low_kept || !high_kept) return fmt::format("{} is not a number {}", quoted(text), describe(range));
  value = *number == 0 ? 0.0 : *number;  // no negative zero
  return {};
}

std::string set_count(std::string_view text, uint64_t low, uint64_t high, uint64_t& value) {
  const auto count = parse_count(text);
  if (!count || *count < low || *count > high) {
    return fmt::format("{} is not a whole number{}", quoted(text), bounds(low, high, false));
  }
  value = *count;
  return {};
}

std::string set_size(std::string_view text, uint64_t low, uint64_t high, uint64_t& value) {
  const auto size = parse_size(text);
  if (!size) return fmt::format("{} is not a size; sizes are written 512MiB, 2GB or in bytes", quoted(text));
  if (*size < low || *size > high)
    return fmt::format("{} is not a size{}", quoted(text), bounds(low, high, true));
  value = *size;
  return {};
}

std::string set_text(std::string_view text, std::string& value) {
  if (text.empty()) return "is empty";
  if (text.size() > 4096) return fmt::format("is {} characters long; at most 4096", text.size());
  if (text.find('\0') != std::string_view::npos) return "holds a zero byte";
  // config.toml and the catalog hold it, and both are UTF-8.
  if (!is_utf8(text)) return "is not valid UTF-8 text";
  value = text;
  return {};
}

std::string set_switch(std::string_view text, bool& value) {
  if (text != "true" && text != "false") return fmt::format("{} is neither true nor false", quoted(text));
  value = text == "true";
  return {};
}

std::string set_choice(std::string_view text, const std::vector<std::string>& choices, size_t& index) {
  const auto found = std::find(choices.begin(), choices.end(), text);
  if (found == choices.end()) {
    return fmt::format(
        "{} is not known; {}", quoted(text),
        choices.size() <= 3 ? fmt::format("known: {}", joined(choices)) : suggestion(text, choices));
  }
  index = static_cast<size_t>(found - choices.begin());
  return {};
}

std::string number_text(double value) { return fmt::format("{}", value); }

}  // namespace headrace::train

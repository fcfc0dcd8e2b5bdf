// Keys with values as the input of a fuzz target: length of the key (1 byte), of the value (3), both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace headrace::fuzz {

template <typename Visit>
void for_each_key_value(const uint8_t* data, size_t size, const Visit& visit) {
  while (size >= 4) {
    const size_t key_bytes = data[0], value_bytes = data[1] | size_t{data[2]} << 8 | size_t{data[3]} << 16;
    if (key_bytes + value_bytes > size - 4) return;
    const auto* key = reinterpret_cast<const char*>(data + 4);
    visit(std::string_view(key, key_bytes), std::as_bytes(std::span(data + 4 + key_bytes, value_bytes)));
    data += 4 + key_bytes + value_bytes;
    size -= 4 + key_bytes + value_bytes;
  }
}

inline void append_key_value(std::string& to, std::string_view key, std::span<const std::byte> value) {
  to += static_cast<char>(key.size());
  for (int shift = 0; shift < 24; shift += 8) to += static_cast<char>(value.size() >> shift);
  to += key;
  to.append(reinterpret_cast<const char*>(value.data()), value.size());
}

}  // namespace headrace::fuzz

// .npy files for tests, sound or not.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace headrace::testing {

// The bytes of a file of format `version`.0: magic, length, `header`, `data`.
inline std::string npy_file(const std::string& header, const std::string& data, int version = 1) {
  std::string file = "\x93NUMPY";
  file += static_cast<char>(version);
  file += '\0';
  for (int byte = 0; byte < (version == 1 ? 2 : 4); byte++)
    file += static_cast<char>(header.size() >> (8 * byte) & 255);
  return file + header + data;
}

// "<f4" and so on; a bool is a byte.
template <typename Element>
std::string npy_description() {
  const char* kind = std::is_floating_point_v<Element> ? "f" : std::is_signed_v<Element> ? "i" : "u";
  return fmt::format("{}{}{}", sizeof(Element) == 1 ? "|" : "<", kind, sizeof(Element));
}

// A sound file as NumPy writes it; `description` if not the element's own ("|b1" of bytes).
template <typename Element>
std::string npy_array(const std::vector<uint64_t>& shape, const std::vector<Element>& elements,
                      const std::string& description = npy_description<Element>()) {
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': ({}{}), }}",
                                   description, fmt::join(shape, ", "), shape.size() == 1 ? "," : "");
  header.append((64 - (10 + header.size() + 1) % 64) % 64, ' ');
  return npy_file(header + "\n",
                  {reinterpret_cast<const char*>(elements.data()), elements.size() * sizeof(Element)});
}

}  // namespace headrace::testing

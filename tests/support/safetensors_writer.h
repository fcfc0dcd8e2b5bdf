// Safetensors files for tests, sound or not.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <fmt/format.h>

namespace headrace::testing {

// The bytes of a file: the length of `header`, it, `data`.
inline std::string safetensors_file(const std::string& header, const std::string& data) {
  const uint64_t bytes = header.size();
  std::string file(sizeof bytes, '\0');
  std::memcpy(file.data(), &bytes, sizeof bytes);
  return file + header + data;
}

// Builds a sound file of one-dimensional tensors.
class SafetensorsWriter {
 public:
  template <typename Element>
  void add(const std::string& name, const std::string& type, const std::vector<Element>& elements) {
    const size_t bytes = elements.size() * sizeof(Element);
    header_ += fmt::format(R"({}"{}":{{"dtype":"{}","shape":[{}],"data_offsets":[{},{}]}})",
                           header_.empty() ? "" : ",", name, type, elements.size(), data_.size(),
                           data_.size() + bytes);
    data_.append(reinterpret_cast<const char*>(elements.data()), bytes);
  }
  std::string file() const { return safetensors_file("{" + header_ + "}", data_); }

 private:
  std::string header_, data_;
};

}  // namespace headrace::testing

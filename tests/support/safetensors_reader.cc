#include "tests/support/safetensors_reader.h"

#include <cstring>

#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::testing {

SafetensorsReader::SafetensorsReader(const std::string& path) {
  const std::string file = read_file(path);
  uint64_t header_bytes = 0;
  HEADRACE_CHECK(file.size() >= sizeof header_bytes, path);
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  HEADRACE_CHECK(header_bytes <= file.size() - sizeof header_bytes, path);
  data_ = file.substr(sizeof header_bytes + header_bytes);
  const auto header = nlohmann::json::parse(file.substr(sizeof header_bytes, header_bytes));
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      metadata_ = value.get<std::map<std::string, std::string>>();
      continue;
    }
    const auto offsets = value.at("data_offsets").get<std::vector<uint64_t>>();
    HEADRACE_CHECK(offsets.size() == 2 && offsets[0] <= offsets[1] && offsets[1] <= data_.size(),
                   path + ": " + name);
    tensors_[name] = {.type = value.at("dtype").get<std::string>(),
                      .shape = value.at("shape").get<std::vector<uint64_t>>(),
                      .first = offsets[0],
                      .last = offsets[1]};
  }
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

const SafetensorsReader::Tensor& SafetensorsReader::tensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  HEADRACE_CHECK(found != tensors_.end(), name);
  return found->second;
}

const std::vector<uint64_t>& SafetensorsReader::shape(const std::string& name) const {
  return tensor(name).shape;
}

template <class Element>
std::vector<Element> SafetensorsReader::elements(const std::string& name, const std::string& type) const {
  const Tensor& found = tensor(name);
  HEADRACE_CHECK(found.type == type, name + " is " + found.type);
  std::vector<Element> values((found.last - found.first) / sizeof(Element));
  std::memcpy(values.data(), data_.data() + found.first, values.size() * sizeof(Element));
  return values;
}

std::vector<float> SafetensorsReader::floats(const std::string& name) const {
  return elements<float>(name, "F32");
}
std::vector<double> SafetensorsReader::doubles(const std::string& name) const {
  return elements<double>(name, "F64");
}
std::vector<int32_t> SafetensorsReader::integers(const std::string& name) const {
  return elements<int32_t>(name, "I32");
}

const std::string& SafetensorsReader::metadata(const std::string& key) const {
  const auto found = metadata_.find(key);
  HEADRACE_CHECK(found != metadata_.end(), key);
  return found->second;
}

}  // namespace headrace::testing

// Reads the safetensors files that the golden tests are held against: 8 bytes of header length (little
// endian), a JSON header, the tensors' bytes. Whole files in memory; a malformed file ends the test binary.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace headrace::testing {

class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::string& path);

  bool has(const std::string& name) const { return tensors_.contains(name); }
  std::vector<std::string> names() const;  // in alphabetical order
  const std::vector<uint64_t>& shape(const std::string& name) const;
  // The tensor's elements; it must be of that type (F32, F64, I32).
  std::vector<float> floats(const std::string& name) const;
  std::vector<double> doubles(const std::string& name) const;
  std::vector<int32_t> integers(const std::string& name) const;
  const std::string& metadata(const std::string& key) const;

 private:
  struct Tensor {
    std::string type;
    std::vector<uint64_t> shape;
    uint64_t first = 0, last = 0;  // bytes of data_
  };
  template <class Element>
  std::vector<Element> elements(const std::string& name, const std::string& type) const;
  const Tensor& tensor(const std::string& name) const;

  std::string data_;
  std::map<std::string, Tensor> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace headrace::testing

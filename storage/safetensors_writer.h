// Writes a safetensors file whose tensors come in pieces, in any order: the header first, then each piece at
// its place. The file must not exist. Threads: one at a time. Failure: Error, of the file's path.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "storage/element_type.h"
#include "storage/file.h"

namespace headrace::storage {

struct NewTensor {
  std::string name;
  ElementType type = ElementType::kF32;
  std::vector<uint64_t> shape;
};

class SafetensorsWriter {
 public:
  // Those of larger elements lie first, so that all are aligned.
  SafetensorsWriter(const std::string& path, const std::vector<NewTensor>& tensors,
                    const std::vector<std::pair<std::string, std::string>>& metadata);

  // Bytes of a tensor from `first_byte` on.
  void write(size_t tensor, uint64_t first_byte, std::span<const std::byte> bytes);
  void finish();  // all pieces have been written: makes the file durable
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  struct Place {
    uint64_t first = 0, last = 0;  // bytes behind the header
  };

  File file_;
  uint64_t data_offset_ = 0, file_bytes_ = 0;
  std::vector<Place> places_;  // by tensor
};

}  // namespace headrace::storage

// Safetensors files: 8 bytes of header length (little-endian), a JSON object that says of each tensor its
// type, shape and place, then the tensors' bytes. They come from anywhere: every length, place and name is
// checked before it is used, and no memory is taken on a length's word alone.
//
// Failure: Error; kCorrupt names the file and the tensor.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/element_type.h"
#include "storage/file.h"
#include "storage/tensor_source.h"

namespace headrace::storage {

inline constexpr uint64_t kMostSafetensorsHeader = 100'000'000;  // bytes; the format's own limit

// The metadata under which a file that was exported from a run keeps SourceInfo::model_json.
inline constexpr const char* kModelKey = "headrace.model";

struct SafetensorsTensor {
  std::string name;
  std::string type_name;  // "F32"; a later format's too
  ElementType type = ElementType::kOther;
  std::vector<uint64_t> shape;
  uint64_t elements = 0;
  uint64_t first = 0, last = 0;  // bytes behind the header
};

struct SafetensorsHeader {
  uint64_t data_offset = 0;                // of the first tensor's bytes in the file
  std::vector<SafetensorsTensor> tensors;  // in the order of the header
  std::vector<std::pair<std::string, std::string>> metadata;
  std::vector<std::string> gaps;  // bytes that belong to no tensor, in sentences; the first few
};

// Parses the JSON text of a header, behind which `data_bytes` follow. Refused: tensors that overlap, lie
// outside the file, or whose place does not fit their type and shape; names that repeat; fields of no
// meaning.
SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t data_bytes,
                                           const std::string& path);
SafetensorsHeader read_safetensors_header(const File& file);

// A file, or a folder with model.safetensors.index.json or *.safetensors in it.
std::unique_ptr<TensorSource> open_safetensors(const std::string& path);

}  // namespace headrace::storage

// The header of safetensors files, and the values behind a sound one.
#include "storage/safetensors.h"

#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  const storage::File file = fuzz::file_of(std::as_bytes(std::span(data, size)));
  fuzz::expect_error_or_success([&] {
    const storage::SafetensorsHeader header = storage::read_safetensors_header(file);
    uint64_t bytes = 0;
    for (const storage::SafetensorsTensor& tensor : header.tensors) {
      bytes += tensor.last - tensor.first;
      std::vector<std::byte> content(tensor.last - tensor.first);
      file.pread_all(content, header.data_offset + tensor.first);
      if (tensor.type == storage::ElementType::kOther) continue;
      std::vector<double> values(tensor.elements);
      storage::to_doubles(tensor.type, content, values);
    }
    HEADRACE_CHECK(header.data_offset + bytes <= size, "tensors that share bytes");
  });
  return 0;
}

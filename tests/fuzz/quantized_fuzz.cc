// A safetensors file of 8-bit integers with scales, seen as the numbers that they stand for.
#include <algorithm>
#include <vector>

#include "engine/inspect/dequantized.h"
#include "storage/safetensors.h"
#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  const storage::File file = fuzz::file_of(std::as_bytes(std::span(data, size)));
  fuzz::expect_error_or_success([&] {
    const auto source =
        inspect::dequantized(storage::open_safetensors("/proc/self/fd/" + std::to_string(file.descriptor())));
    for (size_t i = 0; i < source->tensors().size(); i++) {
      const storage::SourceTensor& tensor = source->tensors()[i];
      if (tensor.planes[0].type != storage::ElementType::kF32) continue;
      // The last of them: the row that a piece ends in is the place of mistakes.
      std::vector<float> values(std::min<uint64_t>(tensor.elements, 4096));
      source->read(i, 0, tensor.elements - values.size(), std::as_writable_bytes(std::span(values)));
    }
  });
  return 0;
}

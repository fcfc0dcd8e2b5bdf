// A compressed piece, behind its split, the bytes of an element (1 byte each) and its elements (2 bytes).
// Whatever it claims, decompressing takes no memory: all that it may take is there before.
#include <sanitizer/allocator_interface.h>

#include <vector>

#include "storage/codec.h"
#include "tests/fuzz/fuzzing.h"

namespace {

constexpr size_t kMostBytes = size_t{1} << 20;
constexpr size_t kMostAllocated = 4096;  // an exception and its text

bool counting = false;
size_t allocated = 0;

void count(const volatile void*, size_t bytes) {
  if (counting) allocated += bytes;
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  static storage::Decompressor decompressor(kMostBytes);
  static std::vector<std::byte> values(kMostBytes);
  static const int installed = __sanitizer_install_malloc_and_free_hooks(count, [](const volatile void*) {});
  HEADRACE_CHECK(installed != 0);
  if (size < 4) return 0;
  const auto split = static_cast<storage::Split>(data[0] % storage::kSplits);
  const uint32_t element_bytes = 1 + data[1] % 16;
  const size_t elements = data[2] | size_t{data[3]} << 8;
  const auto packed = std::as_bytes(std::span(data + 4, size - 4));
  const std::span<std::byte> content = std::span(values).first(elements * element_bytes);
  allocated = 0;
  counting = true;
  try {
    decompressor.decompress(split, element_bytes, packed, content);
  } catch (const storage::CodecError&) {
  }
  counting = false;
  HEADRACE_CHECK(allocated <= kMostAllocated, std::to_string(allocated) + " bytes were allocated");
  return 0;
}

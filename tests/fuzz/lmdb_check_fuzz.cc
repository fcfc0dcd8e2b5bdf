// The checker that a file of LMDB's passes before LMDB maps it.
#include "storage/lmdb_check.h"

#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool exact_length = data[0] % 2 == 1;
  const headrace::storage::File file = headrace::fuzz::file_of(std::as_bytes(std::span(data + 1, size - 1)));
  uint64_t seen = 0;
  headrace::fuzz::expect_error_or_success([&] {
    headrace::storage::check_lmdb_file(file, exact_length, [&](const headrace::storage::LmdbValue& value) {
      seen += value.key.size() + value.bytes + value.prefix.size();
      for (const std::byte byte : value.prefix) seen += static_cast<uint8_t>(byte);
    });
  });
  return seen == 1 ? -1 : 0;
}

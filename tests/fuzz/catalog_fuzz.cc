// The catalog's values. They come through LMDB with right checksums, as those of somebody who means harm
// would.
#include "storage/catalog.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/fuzz/key_values.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  static const fuzz::ScratchDirectory directory;
  directory.clear();
  fuzz::expect_error_or_success([&] {
    storage::CatalogEnv(directory.path(), storage::CatalogAccess::kCreate)
        .commit([&](storage::CatalogEnv::Batch& batch) {
          fuzz::for_each_key_value(data, size, [&](std::string_view key, std::span<const std::byte> value) {
            batch.put(key, value);
          });
        });
    static_cast<void>(storage::Catalog(directory.path(), storage::CatalogAccess::kWrite).load());
  });
  return 0;
}

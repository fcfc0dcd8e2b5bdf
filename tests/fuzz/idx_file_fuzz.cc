// idx files, plain or packed by gzip: the header, and the elements behind it.
#include "storage/idx_file.h"

#include <algorithm>
#include <vector>

#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  const storage::File file = fuzz::file_of(std::as_bytes(std::span(data, size)));
  fuzz::expect_error_or_success([&] {
    const auto idx = storage::IdxFile::open("/proc/self/fd/" + std::to_string(file.descriptor()), "/dev/shm");
    HEADRACE_CHECK(idx.rows() > 0 && idx.columns() > 0);
    const uint64_t elements = idx.rows() * idx.columns();
    std::vector<std::byte> last(std::min<uint64_t>(elements, 4096));
    idx.read(elements - last.size(), last);
  });
  return 0;
}

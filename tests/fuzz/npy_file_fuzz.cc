// .npy files: the header, and the elements behind it.
#include <vector>

#include "storage/npy_file.h"
#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  fuzz::expect_error_or_success([&] {
    const storage::NpyFile file(fuzz::file_of(std::as_bytes(std::span(data, size))));
    HEADRACE_CHECK(file.elements() * storage::element_bytes(file.type()) <= size);
    HEADRACE_CHECK(file.elements() == 0 || file.rows() * file.columns() == file.elements());
    std::vector<float> values(file.elements());
    file.read_floats(0, values);
    std::vector<int64_t> integers(file.elements());
    file.read_integers(0, integers);
  });
  return 0;
}

// Tables as text, plain or packed by gzip: the number of columns of targets in a byte, and the file behind
// it.
#include <vector>

#include "engine/train/csv_rows.h"
#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  if (size == 0) return 0;
  const storage::File file = fuzz::file_of(std::as_bytes(std::span(data, size)).subspan(1));
  fuzz::expect_error_or_success([&] {
    const train::CsvTable table =
        train::read_csv("/proc/self/fd/" + std::to_string(file.descriptor()), data[0], "/dev/shm");
    HEADRACE_CHECK(table.features->rows() == table.targets->rows() && table.features->rows() > 0);
    HEADRACE_CHECK(table.targets->columns() == data[0] && table.features->columns() > 0);
    std::vector<float> row(table.features->columns());
    table.features->read_floats(table.features->rows() - 1, row);
    std::vector<int64_t> targets(table.targets->columns());
    table.targets->read_integers(table.targets->rows() - 1, targets);
  });
  return 0;
}

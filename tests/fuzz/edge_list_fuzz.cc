// Edges as text: the number of nodes in a byte, and the file behind it.
#include <algorithm>
#include <string>

#include "engine/train/edge_list.h"
#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  if (size == 0) return 0;
  const uint64_t nodes = data[0];
  const std::span content = std::as_bytes(std::span(data, size)).subspan(1);
  const storage::File file = fuzz::file_of(content);
  const auto lines = 1 + std::count(content.begin(), content.end(), std::byte{'\n'});
  int64_t edges = 0;
  fuzz::expect_error_or_success([&] {
    train::read_edges("/proc/self/fd/" + std::to_string(file.descriptor()), nodes,
                      [&](uint32_t from, uint32_t to) {
                        HEADRACE_CHECK(from < nodes && to < nodes);
                        edges++;
                      });
  });
  HEADRACE_CHECK(edges <= lines);
  return 0;
}

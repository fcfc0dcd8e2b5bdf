// Lines of metrics.jsonl.
#include "tests/fuzz/fuzzing.h"
#include "tools/loss_history.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static_cast<void>(headrace::tools::parse_metrics_line(headrace::fuzz::text_of(data, size)));
  return 0;
}

// Configuration files (TOML).
#include "tools/config_file.h"

#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(headrace::fuzz::text_of(data, size));
  headrace::fuzz::expect_error_or_success(
      [&] { static_cast<void>(headrace::tools::parse_config(text, "config.toml")); });
  return 0;
}

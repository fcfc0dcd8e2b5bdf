// Hugging Face's config.json.
#include <nlohmann/json.hpp>

#include "models/config_json.h"
#include "models/gpt2_config.h"
#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  const std::string text(fuzz::text_of(data, size));
  fuzz::expect_error_or_success([&] {
    std::vector<std::string> notes;
    const auto config = models::parse_gpt2(models::config_object(text, "config.json"), "config.json", notes);
    HEADRACE_CHECK(models::gpt2_config(models::to_json(config)) == config);
  });
  return 0;
}

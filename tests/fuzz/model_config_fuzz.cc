// Hugging Face's config.json.
#include "models/model_config.h"

#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  const std::string text(fuzz::text_of(data, size));
  fuzz::expect_error_or_success([&] {
    const models::ModelConfig config = models::parse_model(text, "config.json");
    HEADRACE_CHECK(models::parse_model(models::to_json(config.gpt2), "again").gpt2 == config.gpt2);
  });
  return 0;
}

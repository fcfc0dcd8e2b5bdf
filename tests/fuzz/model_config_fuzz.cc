// config.json of every family of models.
#include "engine/train/options.h"
#include "models/registry.h"
#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  const std::string text(fuzz::text_of(data, size));
  fuzz::expect_error_or_success([&] {
    models::ModelConfig config = models::parse_model(text, "config.json");
    HEADRACE_CHECK(models::parse_model(config.json, "itself").json == config.json);
    models::settle(config, train::RunOptions{}, nullptr);
    const std::string settled = config.json;
    models::settle(config, train::RunOptions{}, nullptr);
    HEADRACE_CHECK(config.json == settled);
  });
  return 0;
}

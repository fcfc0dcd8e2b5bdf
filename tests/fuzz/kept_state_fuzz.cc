// What a run's catalog or a file of weights keeps as text: the model's configuration with the options, and
// the cursor of the step. The first byte says which.
#include "engine/train/cursor.h"
#include "engine/train/run_options.h"
#include "tests/fuzz/fuzzing.h"
#include "tools/run_input.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  if (size == 0) return 0;
  const std::string text(fuzz::text_of(data + 1, size - 1));
  fuzz::expect_error_or_success([&] {
    if (data[0] == 0) {
      const models::ModelConfig config = tools::kept_config(text);
      HEADRACE_CHECK(models::parse_model(config.json, "itself").json == config.json);
    } else if (data[0] == 1) {
      const train::RunOptions options = train::run_options_from_json(text);
      const std::string json = train::run_options_json(options);
      HEADRACE_CHECK(train::run_options_json(train::run_options_from_json(json)) == json);
    } else {
      const std::string json = train::cursor_json(train::parse_cursor(text));
      HEADRACE_CHECK(train::cursor_json(train::parse_cursor(json)) == json);
    }
  });
  return 0;
}

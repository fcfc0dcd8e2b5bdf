// The manifest of a checkpoint: as it is, and with the right checksum behind it, as somebody who means harm
// would write it.
#include <fmt/format.h>

#include "storage/checkpoint_format.h"
#include "storage/checksum.h"
#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  const std::string_view text = fuzz::text_of(data, size);
  const uint64_t sum = storage::checksum_bytes(std::as_bytes(std::span(text)));
  const std::string whole = fmt::format("{},\n  \"checksum\": \"{:016x}\"\n}}\n", text, sum);
  for (const std::string_view manifest : {text, std::string_view(whole)}) {
    fuzz::expect_error_or_success([&] {
      const storage::CheckpointManifest parsed = storage::parse_manifest(manifest, "manifest.json");
      const storage::Layout layout = storage::layout_of(parsed, "manifest.json");
      HEADRACE_CHECK(layout.tensors().size() == parsed.stored_bytes.size());
      // What was understood is written as it was understood.
      const std::string again = storage::encode_manifest(parsed);
      HEADRACE_CHECK(storage::encode_manifest(storage::parse_manifest(again, "again")) == again);
    });
  }
  return 0;
}

// The index of a folder of safetensors files; the files themselves are sound.
#include "storage/safetensors.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_directory.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  static const fuzz::ScratchDirectory directory;
  static const bool made = [] {
    for (const char* name : {"a", "b"}) {
      testing::SafetensorsWriter tensors;
      tensors.add<float>(std::string(name) + ".weight", "F32", {1, 2});
      testing::write_file(directory.path() + "/" + name + ".safetensors", tensors.file());
    }
    return true;
  }();
  static_cast<void>(made);
  testing::write_file(directory.path() + "/model.safetensors.index.json",
                      std::string(fuzz::text_of(data, size)));
  fuzz::expect_error_or_success([&] {
    const auto source = storage::open_safetensors(directory.path());
    HEADRACE_CHECK(source->tensors().size() <= 2);
  });
  return 0;
}

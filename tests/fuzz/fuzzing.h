// What the fuzz targets share. A target hands any bytes to one parser; an Error is the parser's answer to bad
// ones. Whatever else ends the process is a defect: a signal, another exception, a sanitizer's report, more
// memory than the limits of tests/fuzz/CMakeLists.txt.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "storage/error.h"
#include "storage/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace headrace::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Runs `parse`, which may throw Error.
template <typename Parse>
void expect_error_or_success(const Parse& parse) {
  try {
    parse();
  } catch (const Error&) {
  }
}

// A file in memory.
inline storage::File file_of(std::span<const std::byte> content) {
  const storage::File file(memfd_create("fuzz", MFD_CLOEXEC), "fuzz");
  HEADRACE_CHECK(file.is_open());
  file.pwrite_all(content, 0);
  return {dup(file.descriptor()), "fuzz"};
}

// A directory in memory for parsers that open paths, removed at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() { HEADRACE_CHECK(::mkdtemp(path_.data()) != nullptr, path_); }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  void clear() const {
    for (const auto& entry : std::filesystem::directory_iterator(path_)) std::filesystem::remove_all(entry);
  }

 private:
  std::string path_ = "/dev/shm/headrace-fuzz-XXXXXX";
};

}  // namespace headrace::fuzz

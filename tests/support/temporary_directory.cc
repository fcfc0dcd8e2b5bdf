#include "tests/support/temporary_directory.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "storage/error.h"

namespace headrace::testing {

TemporaryDirectory::TemporaryDirectory() {
  path_ = (std::filesystem::temp_directory_path() / "headrace-test-XXXXXX").string();
  HEADRACE_CHECK(::mkdtemp(path_.data()) != nullptr, path_);
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, std::string_view content) {
  std::ofstream stream(path, std::ios::binary);
  stream << content;
  stream.close();
  HEADRACE_CHECK(stream.good(), path);
}

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  HEADRACE_CHECK(stream.good(), path);
  return {std::istreambuf_iterator<char>(stream), {}};
}

}  // namespace headrace::testing

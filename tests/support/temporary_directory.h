// A directory of its own for a test, removed with everything in it.
#pragma once

#include <string>
#include <string_view>

namespace headrace::testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return path_ + "/" + std::string(name); }

 private:
  std::string path_;
};

// Whole files; a failure ends the test binary.
void write_file(const std::string& path, std::string_view content);
std::string read_file(const std::string& path);

}  // namespace headrace::testing

// A small ext4 file system of its own, in a file, mounted at a directory: for tests of what file systems
// differ in.
//
// Ownership: unmounted and removed by the destructor. Failure: why_not() says why nothing is mounted; a test
// then skips.
#pragma once

#include <cstdint>
#include <string>

#include "tests/support/temporary_directory.h"

namespace headrace::testing {

class LoopMount {
 public:
  // `options`: of mount, such as "data=journal".
  explicit LoopMount(uint64_t mebibytes, const std::string& options = "defaults");
  ~LoopMount();
  LoopMount(const LoopMount&) = delete;
  LoopMount& operator=(const LoopMount&) = delete;

  const std::string& why_not() const { return why_not_; }  // empty: it is mounted
  const std::string& path() const { return path_; }
  std::string remount(const std::string& options) const;  // "", or why not
  void unmount();

 private:
  TemporaryDirectory directory_;
  std::string path_ = directory_ / "mounted";
  std::string why_not_;
};

}  // namespace headrace::testing

#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

namespace headrace::math::testing {

// Memory for a kernel's `workspace`, aligned as kernels ask for.
class Workspace {
 public:
  explicit Workspace(size_t bytes) : bytes_(bytes + 64) {
    void* start = bytes_.data();
    size_t space = bytes_.size();
    aligned_ = {static_cast<std::byte*>(std::align(64, bytes, start, space)), bytes};
  }
  operator std::span<std::byte>() { return aligned_; }

 private:
  std::vector<std::byte> bytes_;
  std::span<std::byte> aligned_;
};

}  // namespace headrace::math::testing

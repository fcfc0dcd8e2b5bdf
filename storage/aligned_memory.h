// Anonymous memory for blocks: zeroed, aligned for direct I/O and huge pages, and not resident before it is
// touched (a first touch may make 2 MiB resident).
//
// Ownership: unmapped by the destructor, unless keep_all() was called. Failure: Error (kRefused) where the
// system gives no address space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace headrace::storage {

class AlignedMemory {
 public:
  static constexpr uint64_t kAlignment = uint64_t{2} << 20;  // of the start and of the size, in bytes

  AlignedMemory() = default;
  explicit AlignedMemory(uint64_t bytes);  // rounded up to kAlignment; 0: nothing
  ~AlignedMemory();
  AlignedMemory(AlignedMemory&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedMemory& operator=(AlignedMemory&& other) noexcept;

  // From now on nothing is unmapped in this process: a request was given up (IoOptions::stuck_ms) whose
  // buffer the kernel may still use. A fact of the process as a whole, so that no owner of a buffer can miss
  // it.
  static void keep_all();

  std::byte* data() const { return data_; }
  uint64_t size() const { return bytes_; }  // bytes
  std::span<std::byte> span() const { return {data_, bytes_}; }

 private:
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

}  // namespace headrace::storage

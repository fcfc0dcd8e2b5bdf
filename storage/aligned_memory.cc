#include "storage/aligned_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <limits>

#include "storage/error.h"

namespace headrace::storage {

namespace {

std::atomic<bool> all_kept = false;

[[noreturn]] void refuse(uint64_t bytes, int error_number) {
  throw Error(ErrorKind::kRefused,
              fmt::format("cannot map {} bytes of memory: {}", bytes, system_text(error_number)),
              "Ask for less memory, or raise the limit on address space (ulimit -v)");
}

}  // namespace

AlignedMemory::AlignedMemory(uint64_t bytes) {
  if (bytes == 0) return;
  if (bytes > std::numeric_limits<uint64_t>::max() / 2) refuse(bytes, ENOMEM);
  const uint64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  // One unit more than needed, to cut an aligned piece out of.
  const uint64_t mapped = rounded + kAlignment;
  void* const start =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (start == MAP_FAILED) refuse(bytes, errno);
  auto* const first = static_cast<std::byte*>(start);
  const uint64_t before = (kAlignment - reinterpret_cast<uintptr_t>(first) % kAlignment) % kAlignment;
  if (before > 0) ::munmap(first, before);
  ::munmap(first + before + rounded, kAlignment - before);
  data_ = first + before;
  bytes_ = rounded;
  ::madvise(data_, bytes_, MADV_HUGEPAGE);  // only faster; refused where the kernel has none
}

AlignedMemory::~AlignedMemory() {
  if (data_ != nullptr && !all_kept) ::munmap(data_, bytes_);
}

void AlignedMemory::keep_all() { all_kept = true; }

AlignedMemory& AlignedMemory::operator=(AlignedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

}  // namespace headrace::storage

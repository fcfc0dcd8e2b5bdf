#include "storage/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace headrace::storage {

namespace {

constexpr uint32_t kBlockAlignment = 4096;             // bytes
constexpr uint64_t kMaxCallBytes = uint64_t{1} << 30;  // one system call moves less than 2 GiB
constexpr mode_t kCreateMode = 0666;                   // less the umask

int flags_of(OpenMode mode) {
  switch (mode) {
    case OpenMode::kRead:
      return O_RDONLY;
    case OpenMode::kReadWrite:
      return O_RDWR;
    case OpenMode::kCreate:
      return O_RDWR | O_CREAT | O_EXCL;
  }
  return O_RDONLY;
}

int open_repeating(const char* path, int flags) {
  int descriptor = -1;
  do {
    descriptor = ::open(path, flags | O_CLOEXEC, kCreateMode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

[[noreturn]] void fail(const std::string& what, int error_number) {
  throw IoError(ErrorKind::kFailed, error_number, what + ": " + system_text(error_number));
}

DirectAlignment read_direct_alignment(int descriptor) {
  // By number and by place, as the C library's headers may be older than the kernel (STATX_DIOALIGN).
  constexpr uint32_t kStatxDirectAlignment = 0x2000;
  constexpr size_t kMemoryAlignmentAt = 152, kOffsetAlignmentAt = 156;
  struct statx status {};
  static_assert(sizeof status == 256, "the kernel's struct statx");
  if (::syscall(SYS_statx, descriptor, "", AT_EMPTY_PATH, kStatxDirectAlignment, &status) != 0) return {};
  if ((status.stx_mask & kStatxDirectAlignment) == 0) return {};
  DirectAlignment alignment;
  alignment.known = true;
  const auto* bytes = reinterpret_cast<const std::byte*>(&status);
  std::memcpy(&alignment.memory, bytes + kMemoryAlignmentAt, sizeof alignment.memory);
  std::memcpy(&alignment.offset, bytes + kOffsetAlignmentAt, sizeof alignment.offset);
  return alignment;
}

// Sets O_DIRECT on the descriptor, or says why not.
std::string make_direct(int descriptor) {
  if (std::string why = why_not_direct(read_direct_alignment(descriptor)); !why.empty()) return why;
  const int flags = ::fcntl(descriptor, F_GETFL);
  if (flags < 0 || ::fcntl(descriptor, F_SETFL, flags | O_DIRECT) < 0)
    return "O_DIRECT was refused: " + system_text(errno);
  return "";
}

BlockFile buffered(File file, std::string why_not_direct) {
  // No reading ahead: what was not asked for would stay in the page cache.
  ::posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_RANDOM);
  return {std::move(file), false, std::move(why_not_direct)};
}

BlockFile for_blocks(File file) {
  std::string why_not_direct = make_direct(file.descriptor());
  if (!why_not_direct.empty()) return buffered(std::move(file), std::move(why_not_direct));
  return {std::move(file), true, ""};
}

// Without a name, or with one for the moment in which it is made.
File open_temporary(const std::string& directory) {
  const std::string path = directory + "/(temporary)";  // for messages
  File file(open_repeating(directory.c_str(), O_RDWR | O_TMPFILE | O_EXCL), path);
  if (!file.is_open() && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL)) {
    std::string name = directory + "/.headrace-XXXXXX";
    file = File(::mkostemp(name.data(), O_CLOEXEC), path);
    if (file.is_open()) ::unlink(name.c_str());
  }
  if (!file.is_open()) fail("cannot create a temporary file in " + directory, errno);
  return file;
}

}  // namespace

std::string why_not_direct(const DirectAlignment& alignment) {
  if (!alignment.known) return "the kernel or the file system does not say what direct I/O needs";
  if (alignment.memory == 0 || alignment.offset == 0)
    return "the file system has no direct I/O for this file";
  if (kBlockAlignment % alignment.memory != 0 || kBlockAlignment % alignment.offset != 0)
    return fmt::format(
        "direct I/O needs offsets aligned to {} and memory to {} bytes, which do not divide {}",
        alignment.offset, alignment.memory, kBlockAlignment);
  return "";
}

File File::open(const std::string& path, OpenMode mode) {
  const int descriptor = open_repeating(path.c_str(), flags_of(mode));
  if (descriptor < 0)
    fail(fmt::format("cannot {} {}", mode == OpenMode::kCreate ? "create" : "open", path), errno);
  return File(descriptor, path);
}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    close();
    descriptor_ = std::exchange(other.descriptor_, -1);
    path_ = std::move(other.path_);
  }
  return *this;
}

void File::close() {
  // What must be durable was synced before; the result says nothing that could still be acted on.
  if (descriptor_ >= 0) ::close(std::exchange(descriptor_, -1));
}

uint64_t File::size() const {
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) fail("cannot read the size of " + path_, errno);
  return static_cast<uint64_t>(status.st_size);
}

void File::resize(uint64_t bytes) const {
  int result = 0;
  do {
    result = ::ftruncate(descriptor_, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result != 0) fail(fmt::format("cannot resize {} to {} bytes", path_, bytes), errno);
}

void File::pread_all(std::span<std::byte> data, uint64_t offset) const {
  const auto what = [&] {
    return fmt::format("cannot read {} bytes at offset {} of {}", data.size(), offset, path_);
  };
  for (uint64_t done = 0; done < data.size();) {
    const ssize_t moved =
        ::pread(descriptor_, data.data() + done, std::min(data.size() - done, kMaxCallBytes),
                static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) fail(what(), errno);
    if (moved == 0)
      throw IoError(ErrorKind::kCorrupt, 0, fmt::format("{}: end of file at {}", what(), offset + done),
                    "The file was cut short; restore it from a checkpoint or a copy");
    done += static_cast<uint64_t>(moved);
  }
}

void File::pwrite_all(std::span<const std::byte> data, uint64_t offset) const {
  const auto what = [&] {
    return fmt::format("cannot write {} bytes at offset {} of {}", data.size(), offset, path_);
  };
  for (uint64_t done = 0; done < data.size();) {
    const ssize_t moved =
        ::pwrite(descriptor_, data.data() + done, std::min(data.size() - done, kMaxCallBytes),
                 static_cast<off_t>(offset + done));
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) fail(what(), errno);
    if (moved == 0) fail(what(), EIO);
    done += static_cast<uint64_t>(moved);
  }
}

void File::sync() const {
  if (::fdatasync(descriptor_) != 0) fail("cannot sync " + path_, errno);
}

bool File::reserve(uint64_t bytes) const {
  if (bytes == 0) return true;  // which fallocate() takes for an error
  const auto refuse = [&](int error_number, const std::string& free) {
    throw IoError(
        ErrorKind::kRefused, error_number,
        fmt::format("cannot reserve {} bytes for {}: {}{}", bytes, path_, system_text(error_number), free),
        "Free space there, or choose another drive");
  };
  // Looked at first, as fallocate() takes what there is before it fails, from everyone else too.
  struct stat status {};
  struct statvfs system {};
  if (::fstat(descriptor_, &status) == 0 && ::fstatvfs(descriptor_, &system) == 0) {
    const uint64_t held = static_cast<uint64_t>(status.st_blocks) * 512;
    const uint64_t free = static_cast<uint64_t>(system.f_bavail) * system.f_frsize;
    if (bytes > held && bytes - held > free) refuse(ENOSPC, fmt::format(" ({} bytes are free)", free));
  }
  int result = 0;
  do {
    result = ::fallocate(descriptor_, FALLOC_FL_KEEP_SIZE, 0, static_cast<off_t>(bytes));
  } while (result != 0 && errno == EINTR);
  if (result == 0) return true;
  if (errno == EOPNOTSUPP || errno == ENOSYS) return false;
  if (errno == ENOSPC || errno == EDQUOT) refuse(errno, "");
  fail(fmt::format("cannot reserve {} bytes for {}", bytes, path_), errno);
}

void sync_directory(const std::string& path) {
  const File directory(open_repeating(path.c_str(), O_RDONLY | O_DIRECTORY), path);
  if (!directory.is_open()) fail("cannot open directory " + path, errno);
  if (::fsync(directory.descriptor()) != 0) fail("cannot sync directory " + path, errno);
}

BlockFile open_for_blocks(const std::string& path, OpenMode mode) {
  return for_blocks(File::open(path, mode));
}

BlockFile open_buffered_for_blocks(const std::string& path, OpenMode mode) {
  return buffered(File::open(path, mode), "direct I/O was not asked for");
}

BlockFile open_temporary_for_blocks(const std::string& directory) {
  return for_blocks(open_temporary(directory));
}

BlockFile open_buffered_temporary_for_blocks(const std::string& directory) {
  return buffered(open_temporary(directory), "direct I/O was not asked for");
}

DirectAlignment direct_alignment(const File& file) { return read_direct_alignment(file.descriptor()); }

}  // namespace headrace::storage

// A file descriptor with its path, the opening of files for block I/O, and the few small calls that storage
// makes outside block I/O.
//
// Ownership: File closes its descriptor. Threads: calls on one File may run at the same time. Failure: Error
// that names file, offset, length and the system's words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "storage/block_io.h"

namespace headrace::storage {

enum class OpenMode : uint8_t {
  kRead,       // must exist
  kReadWrite,  // must exist
  kCreate,     // must not exist; read and write
};

class File {
 public:
  File() = default;
  File(int descriptor, std::string path) : descriptor_(descriptor), path_(std::move(path)) {}
  static File open(const std::string& path, OpenMode mode);
  ~File() { close(); }
  File(File&& other) noexcept
      : descriptor_(std::exchange(other.descriptor_, -1)), path_(std::move(other.path_)) {}
  File& operator=(File&& other) noexcept;

  bool is_open() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  const std::string& path() const { return path_; }

  uint64_t size() const;  // bytes
  void resize(uint64_t bytes) const;
  // All bytes, or Error; a file that ends before is kCorrupt. Aligned like any transfer where O_DIRECT is
  // set.
  void pread_all(std::span<std::byte> data, uint64_t offset) const;
  void pwrite_all(std::span<const std::byte> data, uint64_t offset) const;
  // fdatasync. Not repeated after a failure: a second call can report success for data that is lost.
  void sync() const;
  // Reserves disk space for bytes [0, bytes) without changing the size. Too little space: IoError (kRefused,
  // ENOSPC or EDQUOT). False where the file system cannot reserve.
  bool reserve(uint64_t bytes) const;

 private:
  void close();

  int descriptor_ = -1;
  std::string path_;
};

// Makes entries of a directory (creations, renames, removals) durable.
void sync_directory(const std::string& path);

struct BlockFile {
  File file;
  bool direct = false;         // O_DIRECT: offsets, lengths and buffers must be multiples of 4096
  std::string why_not_direct;  // in words; empty when direct

  IoFile io_file(uint32_t drive) const { return {file.descriptor(), file.path(), direct, drive}; }
};

// What statx says about direct I/O on a file (STATX_DIOALIGN).
struct DirectAlignment {
  bool known = false;
  uint32_t memory = 0, offset = 0;  // bytes; 0: no direct I/O
};
// In words; empty where direct I/O serves us.
std::string why_not_direct(const DirectAlignment& alignment);

// O_DIRECT where statx says what alignment it needs (Linux 6.1) and that divides 4096; that open() accepts
// the flag proves nothing, as some file systems accept it and buffer. Buffered otherwise.
BlockFile open_for_blocks(const std::string& path, OpenMode mode);
// Through the page cache, as where there is no direct I/O; for comparing and for tests.
BlockFile open_buffered_for_blocks(const std::string& path, OpenMode mode);
// A file without a name that vanishes with its descriptor, for spilled data.
BlockFile open_temporary_for_blocks(const std::string& directory);
BlockFile open_buffered_temporary_for_blocks(const std::string& directory);
// Of an open file: what statx says.
DirectAlignment direct_alignment(const File& file);

}  // namespace headrace::storage

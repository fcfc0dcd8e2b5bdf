// A file of the user's read from its beginning to its end, unpacked on the way where gzip has packed it.
//
// Ownership: holds its file and zlib's state. Threads: one at a time. Failure: Error (kUsage) that names the
// file, the place and why: no regular file, damaged or cut short, bytes after the end of what is packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "storage/file.h"

namespace headrace::storage {

// A regular file of the user's for reading at any place; Error (kUsage) for anything else.
File open_input_file(const std::string& path);

class InputStream {
 public:
  explicit InputStream(const std::string& path);
  explicit InputStream(File file);
  ~InputStream();
  InputStream(InputStream&&) noexcept;
  InputStream& operator=(InputStream&&) noexcept;

  const std::string& path() const;
  bool packed() const;          // by gzip, as its first bytes say
  uint64_t file_bytes() const;  // as it lies on disk
  uint64_t offset() const;      // unpacked bytes read so far
  // As many bytes as `to` has places, or fewer where the content ends; 0: it has ended, and was whole.
  size_t read(std::span<std::byte> to);
  // The file, once no more is to be read from the stream.
  File release();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace headrace::storage

// metrics.jsonl: the committed steps' lines, and no others. The catalog holds the newest commit's lines and
// the file's length before them; opening cuts the file to that length and appends them again.
//
// Threads: one at a time. Failure: Error; kCorrupt when lines of earlier commits are missing.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "storage/file.h"

namespace headrace::storage {

class MetricsLog {
 public:
  // Completes the file to `bytes` bytes, as they are, and `text`. It is made if both are nothing.
  MetricsLog(const std::string& path, uint64_t bytes, std::string_view text);

  const File& file() const { return file_; }
  // How the file differed from the committed lines, in a sentence; empty: not at all.
  const std::string& note() const { return note_; }
  uint64_t bytes() const { return bytes_; }
  // Makes room for appending so many bytes; SpaceError where there is none.
  void reserve(uint64_t bytes) const;
  // Not synced: the next commit does that.
  void append(std::string_view text);

 private:
  File file_;
  std::string note_;
  uint64_t bytes_ = 0;
};

}  // namespace headrace::storage

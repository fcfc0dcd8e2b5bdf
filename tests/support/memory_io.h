// Block I/O on files in memory: the thread back end over system calls that copy. Everything above the calls
// (cutting, order, depth, continuing) is the real thing.
//
// A file is known by its path: files added under one path share one content, which outlives the BlockIo, so
// that a test can "reopen" it. Threads: content() only while no request is outstanding.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "storage/block_io.h"

namespace headrace::testing {

class MemoryFiles {
 public:
  // Requests go to the files by the paths in add_file(); descriptors are ignored. Reading past the end is the
  // error it is on disk; writing past it grows the file with zeros. `this` must outlive the BlockIo.
  std::unique_ptr<storage::BlockIo> make_io(const storage::IoOptions& options);

  std::vector<std::byte>& content(const std::string& path);

 private:
  friend class MemoryIo;
  struct File {
    std::string path;
    std::mutex mutex;
    std::vector<std::byte> bytes;
  };
  File& file(int number);
  int number_of(const std::string& path);

  std::mutex mutex_;
  std::deque<File> files_;
};

}  // namespace headrace::testing

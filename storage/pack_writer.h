// Files that grow by what is appended to them. A thread of its own writes them through a few buffers, with
// O_DIRECT where there is such a thing, so that a checkpoint takes no page cache and no time of those who
// compute.
//
// Ownership: holds files and buffers. Threads: one at a time. Failure: the first fault
// (IoError: a full disk) is kept and thrown by every later append(), close() and wait(); what is on disk then
// counts for nothing.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "storage/aligned_memory.h"
#include "storage/file.h"
#include "storage/layout.h"

namespace headrace::storage {

class PackWriter {
 public:
  PackWriter();
  ~PackWriter();  // writes nothing more
  static uint64_t memory_bytes();

  uint32_t open(const std::string& path);  // a new file; returns what it is called below
  // Returns the offset in the file at which `data` will lie, in one piece.
  uint64_t append(uint32_t file, std::span<const std::byte> data);
  uint64_t bytes(uint32_t file) const;  // appended so far
  void close(uint32_t file);            // nothing more will be appended; makes it durable
  void wait();                          // until all that was closed is durable
  // Forgets all files and the fault; what is not written is not going to be.
  void reset();

 private:
  struct OpenFile {
    BlockFile file;
    uint64_t bytes = 0;  // appended
    std::byte* buffer = nullptr;
    uint64_t buffered = 0;  // bytes in it
  };
  struct Job {
    OpenFile* file = nullptr;
    std::byte* buffer = nullptr;
    uint64_t bytes = 0, offset = 0;
    bool last = false;  // then cuts the file to its bytes and syncs it
  };

  void work();
  void write(const Job& job);
  std::byte* take_buffer();
  void push(Job job);
  void throw_fault() const;

  AlignedMemory memory_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<OpenFile> files_;
  std::vector<std::byte*> free_;
  std::deque<Job> jobs_;
  bool busy_ = false, stopping_ = false;
  std::exception_ptr fault_;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace headrace::storage

// The C library's calls that change files, seen before and after they happen: pwrite, write, writev,
// fdatasync, fsync, ftruncate, mmap, open, rename, link, unlink, mkdir and rmdir of a program that links this
// are these, for LMDB and the standard library too. Calls on files below one directory are shown to a
// watcher; all are passed on.
//
// Block I/O is seen where it uses threads (--io threads), since io_uring makes no such calls.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace headrace::testing {

enum class CallKind : uint8_t { kWrite, kSync, kTruncate, kCreate, kRename, kLink, kRemove, kMakeDirectory };

struct SystemCall {
  CallKind kind = CallKind::kWrite;
  std::string path;    // relative to the watched directory
  std::string target;  // of kRename and kLink: likewise
  int descriptor = -1;
  uint64_t offset = 0;              // of kWrite; of kTruncate: the new size
  std::span<const std::byte> data;  // of kWrite
  bool durable = false;             // of kWrite: O_DSYNC
};

class CallWatcher {
 public:
  virtual ~CallWatcher() = default;
  // Any thread. `after`: the call has succeeded.
  virtual void before(const SystemCall& call) = 0;
  virtual void after(const SystemCall& call) = 0;
};

// The program's watcher, which it sets once, and the directory; none: nothing is looked at.
void watch_system_calls(CallWatcher& watcher, const std::string& directory);
// The real pwrite, for a watcher that makes half of a call.
void write_unwatched(int descriptor, std::span<const std::byte> data, uint64_t offset);

}  // namespace headrace::testing

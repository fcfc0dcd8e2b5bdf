// Free space of file systems, and what happens when there is too little. Any thread; failure: Error.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/error.h"
#include "storage/file.h"
#include "storage/store.h"

namespace headrace::storage {

// A disk has too little room for what comes next (kRefused). Nothing has changed: the same call may be made
// again when there is more.
class SpaceError : public Error {
 public:
  // So many bytes more are needed in `directory` for `what`. `error_number`: ENOSPC or EDQUOT.
  SpaceError(const std::string& directory, uint64_t needed_bytes, const std::string& what, int error_number);
  const std::string& directory() const { return directory_; }
  uint64_t needed_bytes() const { return needed_bytes_; }

 private:
  std::string directory_;
  uint64_t needed_bytes_;
};

// Who decides what a full disk means. Any thread.
class SpaceWaiter {
 public:
  virtual ~SpaceWaiter() = default;
  // Returns when it is time to try again; throws to give up.
  virtual void wait(const SpaceError& error) = 0;
  // What had met the full disk has succeeded.
  virtual void over() = 0;
  // The work has begun: from here on giving up is a failure, no longer a refusal.
  virtual void started() = 0;
};

// Calls `action` until it finds room; without a waiter, once.
template <typename Action>
void with_space(SpaceWaiter* waiter, const Action& action) {
  for (bool waited = false;; waited = true) {
    try {
      action();
      if (waited) waiter->over();
      return;
    } catch (const SpaceError& error) {
      if (waiter == nullptr) throw;
      waiter->wait(error);
    }
  }
}

// Reserves bytes [0, bytes) of the file as File::reserve does; too little space is a SpaceError. `what` the
// bytes are for, in words.
bool reserve_space(const File& file, uint64_t bytes, const std::string& what);

// Bytes wanted in each of some directories, which need not exist yet, added up by file system.
struct SpaceWanted {
  std::string directory;
  uint64_t bytes = 0;
};
std::vector<SpaceNeeded> space_by_file_system(std::span<const SpaceWanted> wanted);
// Throws Error (kRefused) for the first that has too little.
void require_space(std::span<const SpaceNeeded> needed);

// The device of the nearest existing directory at or above `path`.
uint64_t device_of(const std::string& path);

}  // namespace headrace::storage

// Faults below everything: this binary's own pread, pwrite, fdatasync, rename, ... and liburing's submission
// stand in front of the C library's and the kernel's, for the program, LMDB and the standard library alike.
// They count the calls on files below one directory, and make one of them go wrong as scripted; all else is
// passed on and really happens.
//
// With io_uring the submitted entry is exchanged for one that does nothing, whose completion then says what
// the fault says, and what is to move in spite of it is moved beside the ring; an entry without an answer
// becomes a read of a pipe that nobody writes to. The ring itself, and every other entry in it, is real.
//
// The one script is the process's. Threads: the calls come from any; script() and watch() from the test while
// nothing runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace headrace::testing {

enum class SystemCall : uint8_t {
  kPread,
  kPwrite,
  kWrite,
  kWritev,
  kFdatasync,
  kFsync,
  kSyncFileRange,
  kFtruncate,
  kFallocate,
  kOpen,
  kMkdir,
  kRename,
  kUnlink,
  kFlock,
  kMmap,
  kUringRead,
  kUringWrite,
  kUringSync,
};
inline constexpr size_t kSystemCalls = size_t(SystemCall::kUringSync) + 1;
const char* name_of(SystemCall call);

enum class SystemAction : uint8_t {
  kFail,      // with `error_number`, nothing happens
  kShort,     // moves and reports only `amount` bytes
  kFlipBit,   // a read: bit `amount` of what it returns is inverted
  kLose,      // a write: reported as done, never made: what was there before stays
  kTear,      // a write: reported as done, only its first `amount` bytes are made
  kMisplace,  // a write: made `amount` bytes further on, reported as done where it should be
  kHang,      // never returns, or never completes, until release_hung_calls()
};

struct SystemFault {
  SystemCall call = SystemCall::kPread;
  bool block_io = false;  // on a descriptor with O_DIRECT, or on others
  uint64_t number = 0;    // among the watched calls of this kind on such descriptors, from 0
  SystemAction action = SystemAction::kFail;
  int error_number = 0;
  uint64_t amount = 0;
  uint32_t times = 1;  // so many calls in a row, of those on the same file
};

struct WatchedCall {
  SystemCall call = SystemCall::kPread;
  uint64_t number = 0;
  uint64_t bytes = 0;     // of a transfer
  bool block_io = false;  // on a descriptor with O_DIRECT: a payload moved by block I/O
  std::string path;
};

// Watches calls on what lies below `directory` (empty: nothing), numbers from 0, with at most one fault.
// Syncs that are not to fail are left out: no power is cut here, and they take most of a small run's time.
void watch_system_calls(const std::string& directory, std::optional<SystemFault> fault = std::nullopt);
std::vector<WatchedCall> watched_calls();  // since then
std::optional<WatchedCall> met_call();     // the one that the fault met, if any did
void release_hung_calls();

namespace internal {  // between the interposed functions
struct Meeting {
  bool watched = false;
  std::optional<SystemFault> fault;
};
Meeting meet(SystemCall call, int descriptor, uint64_t bytes);
void flip_bit(void* data, uint64_t bytes, uint64_t bit);
void hang();                 // returns after release_hung_calls()
int hung_pipe_descriptor();  // a read of it completes after release_hung_calls()
}  // namespace internal

}  // namespace headrace::testing

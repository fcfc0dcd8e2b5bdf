// A transfer: the part of a request that one system call moves. What follows from the call's result (done,
// continue, repeat, fail) is decided here, once, for every back end that makes system calls; the back ends
// only make the call that `step` names and hand its result to apply_result().
//
// A value without locks: one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>

#include "storage/block_io.h"

namespace headrace::storage {

// Files that are not direct pass through the page cache, which must not grow by what we move: a write is
// flushed to the drive and then dropped from the cache, a read is dropped.
enum class TransferStep : uint8_t { kRead, kWrite, kSync, kFlush, kDrop };

struct Transfer {
  TransferStep step = TransferStep::kRead;
  bool reads = false;  // the transfer as a whole, whatever its step
  const IoFile* file = nullptr;
  uint64_t offset = 0, bytes = 0;  // the whole transfer
  std::byte* data = nullptr;
  uint64_t moved = 0;                        // bytes; kRead and kWrite go on from here
  uint32_t repeats = 0;                      // busy or interrupted, since the last progress
  uint32_t stalls = 0;                       // less than an aligned unit moved, since the last progress
  uint32_t request = 0;                      // the owner's: which request this is a part of
  uint32_t drive = 0;                        // the owner's
  uint64_t started_tick = 0;                 // the owner's: when it was handed out
  bool in_flight = false, given_up = false;  // the owner's

  uint64_t next_offset() const { return offset + moved; }
  std::byte* next_data() const { return data + moved; }
  uint64_t bytes_left() const { return bytes - moved; }
};

enum class TransferNext : uint8_t {
  kDone,        // over; `error` says how
  kAgain,       // make the call for the transfer's (new) step
  kAgainLater,  // the same, after kBusyPause: the system was busy
};

struct TransferVerdict {
  TransferNext next = TransferNext::kDone;
  std::exception_ptr error;  // an IoError, or null
};

inline constexpr uint32_t kBusyPauseMicroseconds = 1000;
inline constexpr uint32_t kMaxRepeats = 10000;  // then the system counts as broken, not busy
inline constexpr uint32_t kMaxStalls = 3;

// `result`: bytes moved, or 0 for calls that move none, or -errno.
TransferVerdict apply_result(Transfer& transfer, int64_t result);

}  // namespace headrace::storage

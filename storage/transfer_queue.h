// The requests that a back end holds: cuts them into transfers, orders them, bounds how many are in flight on
// a drive, and says when a request is over. Knows no system calls.
//
// Order: on each drive the reads are first in, first out, and so are writes and syncs; where both wait they
// take turns, transfer by transfer, so that neither starves the other. Drives take turns too.
//
// Threads: no locks inside; the owner holds one. Never allocates after the constructor, except in add_file().
#pragma once

#include <cstdint>
#include <deque>
#include <exception>
#include <optional>
#include <span>
#include <vector>

#include "storage/block_io.h"
#include "storage/transfer.h"

namespace headrace::storage {

struct IoCompletion {
  IoListener* listener = nullptr;
  uint64_t tag = 0;
  std::exception_ptr error;
};

class TransferQueue {
 public:
  // Throws Error (kUsage) for options that make no sense.
  explicit TransferQueue(const IoOptions& options);

  FileIndex add_file(const IoFile& file);
  void push(std::span<const IoRequest> requests);
  // The next transfer to start; it is in flight until finish(). Null: nothing waits, or every drive that has
  // something waiting is at its depth.
  Transfer* next();
  // The transfer is over. A request's other parts, if any, are not begun after an error. Returns the
  // request's completion when this was its last part in flight. Nothing for a transfer that was given up: it
  // is too late.
  std::optional<IoCompletion> finish(Transfer& transfer, std::exception_ptr error);

  // Time, as the owner's watchdog counts it: a transfer that was in flight for kStuckTicks full ticks is
  // given up. Its request, and every one that has not begun, is over with an error; those in flight get their
  // time. The transfer itself is never handed out again, as the system may still use its buffer.
  static constexpr uint32_t kStuckTicks = 8;
  std::vector<IoCompletion> tick();
  // After one was given up: the completions of all requests that wait, to be delivered as errors.
  std::vector<IoCompletion> fail_waiting();
  bool gave_up() const { return stuck_ != nullptr; }

  bool empty() const { return outstanding_ == 0; }
  const IoCounters& counters() const { return counters_; }

 private:
  static constexpr uint32_t kNone = ~uint32_t{0};
  static constexpr uint64_t kPieceUnit = 4096;  // what direct I/O asks of any drive

  struct Active {
    IoRequest request;
    uint64_t cut_bytes = 0;    // handed out as transfers
    bool cut = false;          // completely handed out, or given up
    uint32_t in_flight = 0;    // transfers
    std::exception_ptr error;  // the first
    uint32_t next = kNone;     // in its line, or in the free list
  };
  struct Line {
    uint32_t first = kNone, last = kNone;
  };
  struct Drive {
    uint32_t number = 0;  // IoFile::drive
    uint32_t in_flight = 0;
    Line reads, writes;
    bool writes_turn = false;
  };
  struct File {
    IoFile file;
    uint32_t drive = 0;  // index in drives_
  };

  void push_one(const IoRequest& request);
  Line& line_of(const Active& active);
  Transfer* cut_from(uint32_t drive_index, Line& line);
  uint64_t next_piece(uint64_t bytes_left) const;
  void count(const IoRequest& request);
  std::optional<IoCompletion> end_part(Active& active, uint32_t index, std::exception_ptr error);
  IoCompletion end(Active& active, uint32_t index);
  void give_up(Transfer& transfer, std::vector<IoCompletion>& over);

  const uint32_t depth_;
  const uint64_t transfer_bytes_;
  const uint32_t max_requests_;
  std::deque<File> files_;  // addresses stay: transfers refer to them
  std::vector<Drive> drives_;
  uint32_t drive_turn_ = 0;
  std::vector<Active> active_;  // reserved for max_requests
  uint32_t free_active_ = kNone;
  uint32_t outstanding_ = 0;        // requests
  std::deque<Transfer> transfers_;  // depth of them a drive
  std::vector<Transfer*> free_transfers_;
  IoCounters counters_;
  const double stuck_seconds_;
  uint64_t tick_ = 0;
  std::exception_ptr stuck_;  // why nothing is begun any more
};

}  // namespace headrace::storage

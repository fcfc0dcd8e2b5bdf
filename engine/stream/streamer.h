// Carries out plans: begins placements and spills when what they wait for has happened, keeps the I/O queue
// full far ahead of use, lets operations wait for their entries, and writes updated blocks to the store.
//
// Threads: acquire() and complete() may be called from several workers of the arena; io_done() comes from the
// I/O thread; begin() and the rest from the training thread between programs. Failure: the first fault (I/O,
// checksum, fail()) is kept and thrown by every later acquire(); nothing waits for ever.
#pragma once

#include <atomic>
#include <cstddef>
#include <deque>
#include <exception>
#include <mutex>
#include <span>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/stream/cache.h"
#include "engine/stream/stall_clock.h"
#include "engine/stream/wait.h"
#include "storage/block_io.h"
#include "storage/store.h"

namespace headrace::stream {

// Which planes of a block make up its two entries: [0, weight_planes) its weights, the rest its moments. A
// frozen block is one entry with all of its planes, whatever the optimizer's are.
struct BlockPlanes {
  uint32_t weight_planes = 2;
  uint32_t planes = 4;
  storage::PlaneRange weights(const storage::BlockLayout& block) const {
    return {0, block.slots == 1 ? uint32_t(block.planes.size()) : weight_planes};
  }
  storage::PlaneRange moments(const storage::BlockLayout& block) const {
    const auto all = uint32_t(block.planes.size());
    return block.slots == 1 ? storage::PlaneRange{all, all} : storage::PlaneRange{weight_planes, planes};
  }
  bool has_moments() const { return planes > weight_planes; }  // otherwise a trained block is one entry, too
};

class Streamer : private storage::IoListener {
 public:
  struct Parts {
    storage::Store& store;
    storage::BlockIo& io;
    const EntrySpace& space;
    BlockPlanes planes;
    std::span<std::byte> arena;
    std::vector<storage::FileIndex> spill_files;
  };
  explicit Streamer(const Parts& parts);
  ~Streamer() override;  // waits for what is in flight

  // The next program and its plan; both must stay until the program's last operation has completed.
  void begin(const Program& program, Plan plan);
  // Waits until the operation's entries are in memory and verified. `suspend`: called from inside a task. An
  // update also waits until no commit is under way, since it begins the next step's content.
  void acquire(OpIndex op, bool suspend);
  // Where an entry of an acquired operation lies.
  std::byte* address(EntryId entry) const { return entries_[entry].address; }
  // The operation's work is done: its content may be written, its memory reused. `block`: of an update.
  void complete(OpIndex op, BlockId block);

  // Blocks until every write that has been issued to the store is complete; throws the fault if there is one.
  void wait_for_store_writes();
  void wait_for_all();  // likewise everything in flight
  void set_committing(bool committing);
  void fail(std::exception_ptr fault);
  bool failed() const;

  StallClock& clock() { return clock_; }

 private:
  enum class Check : uint8_t { kDue, kUnderWay, kDone };
  struct EntryState {
    std::byte* address = nullptr;
    PlacementId placement = ~PlacementId{0};  // the one that has begun last
    bool loaded = false;
    Check check = Check::kDone;
    Source source = Source::kCreated;
    uint64_t bytes = 0;
    SpillExtent spill;                      // where its spilled copy was read
    std::vector<uint64_t> spill_checksums;  // of its spilled copy, by chunk
  };
  // What acquire() needs to know of an operation of the program under way.
  struct Needed {
    std::span<const Access> accesses;
    std::span<const PlacementId> placements;
    bool update = false;
  };

  void io_done(uint64_t tag, std::exception_ptr error) override;
  Needed needed(OpIndex op) const;
  bool loaded(const Needed& operation) const;
  bool may_begin(const Placement& placement) const;
  void begin_placement(PlacementId id, const Placement& placement, std::vector<storage::IoRequest>& requests);
  void begin_ready_placements(std::vector<storage::IoRequest>& requests);
  storage::PlaneRange range_of(EntryId entry) const;
  bool claim(const Needed& operation, std::vector<EntryId>& unverified);
  void wait_until_loaded(const Needed& operation, bool suspend);
  void verify_entry(EntryId entry);
  storage::IoRequest sealed(EntryId entry, const std::byte* data, WriteId id);
  void write_to_store(std::span<const storage::IoRequest> requests);
  void write_block(OpIndex op, BlockId block);
  void write_entry(const SpillWrite& write);
  void go_on();
  void spill(const SpillWrite& write);
  void advance_completed(OpIndex op);
  void submit(std::span<const storage::IoRequest> requests);
  void write_finished(WriteId id);

  Parts parts_;
  mutable std::mutex mutex_;
  WaitList waiters_{mutex_};
  std::condition_variable idle_;
  StallClock clock_;

  const Program* program_ = nullptr;
  Plan plan_;
  size_t next_spill_ = 0;
  std::vector<EntryState> entries_;
  std::deque<std::pair<PlacementId, Placement>> queue_;      // not begun, in the planned order
  std::unordered_set<PlacementId> unfinished_placements_;    // not begun or not loaded
  std::unordered_map<WriteId, uint32_t> unfinished_writes_;  // requests still to complete (planned ones too)
  OpIndex completed_ops_ = 0;                                // all before it have completed
  std::vector<bool> completed_;                              // of the program, by index
  uint32_t store_writes_ = 0, in_flight_ = 0;
  bool committing_ = false;
  std::exception_ptr fault_;
};

}  // namespace headrace::stream

// The cache, planned ahead. The planner walks a recorded program operation by operation and decides where in
// one arena each entry lies, when it is fetched and what makes room for it: what is next used farthest in the
// future (Belady 1966), since the future is known. Its decisions depend on programs and sizes alone, never on
// timing, so a plan's byte counts are exact before anything runs.
//
// Used from one thread. Input: programs one after the other, each with the one that will follow it (for next
// uses and for prefetching across the seam). Output: placements with what each must wait for, and spills.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/stream/schedule.h"
#include "engine/stream/spill_space.h"

namespace headrace::stream {

using PlacementId = uint64_t;  // counts placements over a session
using WriteId = uint64_t;      // counts writes over a session, from 1; 0: none

enum class Source : uint8_t { kCreated, kStore, kSpill };

// An entry's stay in memory. It may begin when `after_ops` operations (counted over the session, in order)
// have completed, and the writes and unused fetches too: until then somebody else's bytes are there.
struct Placement {
  EntryId entry = kNoEntry;
  Source source = Source::kCreated;
  uint64_t offset = 0, bytes = 0;  // in the arena
  OpIndex after_ops = 0;
  std::vector<WriteId> after_writes;
  std::vector<PlacementId> after_placements;  // fetched for nothing: evicted before they were used
  SpillExtent spill;                          // of Source::kSpill
};

// An entry written to the spill file, or to the store if that keeps it, once `after_ops` operations have
// completed (its last use before it leaves memory is among them).
struct SpillWrite {
  EntryId entry = kNoEntry;
  PlacementId placement = 0;
  uint64_t offset = 0, bytes = 0;  // in the arena
  SpillExtent extent;              // not of an entry that the store keeps
  OpIndex after_ops = 0;
  WriteId id = 0;
};

// When a program's updated blocks go to the store.
enum class StoreWrites : uint8_t {
  kAtOnce,      // as their updates complete: a commit follows
  kDeferred,    // when they leave memory; what stays until its next update is overtaken by that
  kEverything,  // at once, and at the end what earlier programs left in memory
};

struct PlannedBytes {
  uint64_t store_read = 0, store_written = 0, spill_read = 0, spill_written = 0;
  uint64_t read() const { return store_read + spill_read; }
  uint64_t written() const { return store_written + spill_written; }
  uint64_t total() const { return read() + written(); }
};

struct Plan {
  OpIndex first_op = 0;                       // number of the program's first operation in the session
  PlacementId first_placement = 0;            // number of placements[0]
  std::vector<Placement> placements;          // in the order in which they are to begin
  std::vector<SpillWrite> spills;             // by after_ops
  std::vector<PlacementId> access_placement;  // for each access of the program
  std::vector<WriteId> op_write;              // for each operation: of its block's content at once, or 0
  PlannedBytes bytes;
};

// What makes room. Where entries have one size all but the last are Belady's rule, which is optimal; where
// they have several no simple rule always is, so that the best is chosen by planning with each.
enum class VictimRule : uint8_t {
  kFarthest,           // the run of entries whose first next use is farthest away
  kCheapest,           // the least sum of bytes to be read again, each divided by how far away that is
  kCheapestDirty,      // the same, counting what must be written first twice
  kLeastRecentlyUsed,  // for comparison
};

struct CacheOptions {
  uint64_t arena_bytes = 0;
  uint64_t prefetch_bytes = 0;      // fetched ahead of use at most; 0: on demand
  uint64_t write_behind_bytes = 0;  // of the last writes whose memory is left alone while it can be
  uint32_t create_ahead_ops = 2;    // operations ahead for which memory of created entries is placed
  VictimRule rule = VictimRule::kFarthest;
};

class CachePlanner {
 public:
  CachePlanner(const EntrySpace& space, const EntrySizes& sizes, const CacheOptions& options,
               SpillSpace* spill_space);

  // Plans `program` knowing that `next` (may be null) follows. Throws Error (kRefused) where the arena is
  // smaller than one operation's entries; preflight sees to it that it is not.
  Plan plan(const Program& program, const Program* next, StoreWrites writes = StoreWrites::kAtOnce);
  // What was announced as next will not come: forgets temporaries placed for it.
  void discard_future();

  // Bytes of the largest operation: the least arena in which the program can run.
  static uint64_t least_arena_bytes(const Program& program, const EntrySpace& space, const EntrySizes& sizes);
  static uint64_t placed_bytes(uint64_t bytes);  // with the padding that keeps direct I/O aligned

 private:
  // A piece of the arena: an entry, or free (kNoEntry) since the stamped event.
  struct Segment {
    uint64_t offset = 0, bytes = 0;
    EntryId entry = kNoEntry;
    OpIndex after_ops = 0;
    WriteId after_write = 0;
    PlacementId after_placement = 0;  // one more than its number; 0: none
  };
  struct Resident {
    PlacementId placement = 0;
    uint64_t bytes = 0;
    OpIndex next_use = kNever, used_ops = 0;  // used_ops: operations completed once its last use is
    WriteId last_write = 0;
    uint64_t written_at = 0;  // written_bytes_ when its content last went to the store
    uint64_t offset = 0;      // in the arena
    bool resident = false, dirty = false, unused = false, prefetched = false, spilled = false;
    PlacementId fetched_for_nothing =
        0;  // one more than the number of its last placement, if that was unused
    SpillExtent extent;
  };
  struct Window {
    size_t first = 0, last = 0;  // segments [first, last)
  };

  void start(const Program& program, const Program* next);
  void link_uses();
  const Program& program_of(OpIndex op) const;
  const Op& op_at(OpIndex op) const;
  std::span<const Access> accesses(OpIndex op) const;
  uint64_t bytes_of(const Access& access, OpIndex op) const;
  void place_operation(OpIndex op);
  void prefetch(OpIndex op);
  void create_ahead(OpIndex op);
  bool place(const Access& access, OpIndex op, bool may_disturb_writes);
  void place_after_clearing(OpIndex op);
  std::optional<Window> free_window(uint64_t bytes) const;
  std::optional<Window> victim_window(uint64_t bytes, OpIndex op, bool may_disturb_writes) const;
  bool may_evict(const Segment& segment, OpIndex op, bool may_disturb_writes) const;
  double cost(const Segment& segment, OpIndex op) const;
  void settle(const Window& window, const Access& access, uint64_t bytes);
  void evict(Segment& segment);
  void write_out(EntryId entry);
  void release(EntryId entry);
  void merge_free(size_t index);
  size_t segment_at(uint64_t offset) const;
  void complete(OpIndex op);

  const EntrySpace& space_;
  const EntrySizes& sizes_;
  CacheOptions options_;
  SpillSpace* spill_space_;
  std::vector<Segment> segments_;
  std::vector<Resident> residents_;  // by entry
  const Program* program_ = nullptr;
  const Program* next_ = nullptr;
  StoreWrites writes_ = StoreWrites::kAtOnce;
  std::vector<OpIndex> next_use_;  // for each access of program and next: the entry's next use after
  OpIndex first_op_ = 0, end_op_ = 0, fetch_head_ = 0;
  PlacementId placement_count_ = 0;
  WriteId write_count_ = 0;
  uint64_t written_bytes_ = 0, prefetched_bytes_ = 0;
  Plan plan_;
};

}  // namespace headrace::stream

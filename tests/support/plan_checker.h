// Holds the plans of a session to what makes them safe to carry out, without knowing how they were made:
// replays them over the programs and says what is wrong.
//
// - No access finds its memory in other hands: a placement waits for all users of its bytes before it, for
// the
//   writes out of them and for fetches into them that nobody used.
// - Every operation can begin: what its placements wait for happens before it.
// - What is fetched is the newest content; what exists nowhere else is spilled; a spill waits for the last
// use.
// - After a program that writes everything the store has the newest content of all blocks.
// - Extents of the spill file are not overwritten while somebody will read them.
// - The planned bytes are the sum of what is planned.
#pragma once

#include <string>
#include <vector>

#include "engine/stream/cache.h"
#include "engine/stream/schedule.h"

namespace headrace::testing {

class PlanChecker {
 public:
  PlanChecker(const stream::EntrySpace& space, const stream::EntrySizes& sizes, uint64_t arena_bytes)
      : space_(space), sizes_(sizes), arena_bytes_(arena_bytes) {}

  // Programs and plans in the order of the session.
  void add(const stream::Program& program, const stream::Plan& plan,
           stream::StoreWrites writes = stream::StoreWrites::kAtOnce);
  // What is wrong with all that was added; nothing: all is well.
  std::vector<std::string> faults();

 private:
  struct Use {
    stream::OpIndex op = 0;
    stream::AccessMode mode = stream::AccessMode::kRead;
    bool last = false;
    stream::WriteId write = 0;  // of an update
  };
  // A placement and what happens to it.
  struct Stay {
    stream::Placement placement;
    std::vector<Use> uses;
    std::vector<stream::SpillWrite> spills;
  };

  void fault(const std::string& text) { faults_.push_back(text); }
  void add_uses(const stream::Program& program, const stream::Plan& plan, bool at_once);
  void check_bytes(const stream::Program& program, const stream::Plan& plan);
  void check_memory();
  void check_progress();
  void check_content();
  void check_content_of(const std::vector<stream::PlacementId>& stays);
  void check_spill_space();
  stream::OpIndex first_use_from(stream::PlacementId id) const;
  std::vector<std::vector<stream::PlacementId>> stays_by_entry() const;
  std::string name(stream::PlacementId id) const;

  const stream::EntrySpace& space_;
  const stream::EntrySizes& sizes_;
  uint64_t arena_bytes_;
  std::vector<Stay> stays_;                                               // by placement
  std::vector<stream::SpillWrite> spills_;                                // in the order of their numbers
  std::vector<std::pair<stream::WriteId, stream::OpIndex>> write_after_;  // operations that a write waits for
  bool everything_written_ = false;                                       // by the last program
  std::vector<std::string> faults_;
};

}  // namespace headrace::testing

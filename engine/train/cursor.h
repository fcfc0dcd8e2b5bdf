// The small state that commits with a step, as the catalog keeps it: which step that is, and whether the one
// after it was under way, or a checkpoint not published yet. A session that ends in an orderly way clears
// that, so a note that is still there says that the process died.
#pragma once

#include <cstdint>
#include <string>

namespace headrace::train {

struct Cursor {
  uint64_t step = 0;
  bool next_in_flight = false;
  uint64_t checkpoint_due = 0;  // the step that one is being taken of; 0: none
};

std::string cursor_json(const Cursor& cursor);  // {"step":412,"in_flight":413,"checkpoint":412}
// Error (kCorrupt) for what is none.
Cursor parse_cursor(const std::string& json);

// "resuming at step 412; step 413 was in flight", or with commits every so many steps, that up to so many
// were.
std::string describe_resume(const Cursor& cursor, uint64_t commit_every);

}  // namespace headrace::train

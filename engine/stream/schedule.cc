#include "engine/stream/schedule.h"

namespace headrace::stream {

void mark_last_accesses(Program& program, const EntrySpace& space) {
  std::vector<bool> seen(program.temporary_bytes.size(), false);
  for (size_t i = program.accesses.size(); i-- > 0;) {
    Access& access = program.accesses[i];
    if (space.kind(access.entry) != EntryKind::kTemporary) continue;
    const uint32_t index = space.temporary_index(access.entry);
    access.last = !seen[index];
    seen[index] = true;
  }
}

}  // namespace headrace::stream

// The moments at which a training can die that matter: each call that changes what is on disk, named by its
// file and what it does, "catalog/data.mdb: write the meta page"; before it, after it, and with half of a
// write made. The list is that of docs/recovery.md.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "tests/recovery/system_calls.h"

namespace headrace::testing {

struct KillPoint {
  const char* name;
  const char* phase;  // "creation", "start" of a session, "commit" (blocks are also written at creation),
                      // "checkpoint"
};
std::span<const KillPoint> kill_points();  // of a run with one shard of its own

std::string name_of(const SystemCall& call);

enum class KillMoment : uint8_t { kBefore, kHalfway, kAfter };
inline constexpr const char* kMomentNames[] = {"before", "halfway", "after"};

}  // namespace headrace::testing

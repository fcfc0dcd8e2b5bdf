// The digest of a run: one hexadecimal text that depends on the logical content alone: names and shapes of
// the tensors, their exact values and those of the optimizer's state, and the committed step. Never on slots,
// shards, block size, or how tensors share records. Equal digests mean equal models.
#pragma once

#include <functional>
#include <string>

#include "storage/block_io.h"
#include "storage/store.h"

namespace headrace::storage {

// Reads and verifies every current block once, in a few tens of MiB of memory. Throws Error (kCorrupt) for a
// block that is not what was written. `progress`, if there is one, is told the share done.
std::string digest(const Store& store, BlockIo& io,
                   const std::function<void(double fraction)>& progress = nullptr);

}  // namespace headrace::storage

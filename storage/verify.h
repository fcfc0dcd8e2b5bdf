// Reads a whole run to see that it is what was written.
#pragma once

#include <cstdint>

#include "storage/block_io.h"
#include "storage/store.h"

namespace headrace::storage {

// Reads every plane of every block's newest content and checks it; throws Error (kCorrupt) at the first
// damage. Takes a few buffers of one plane of a block each, `memory_bytes` in all where that holds two.
// Nothing may be written meanwhile.
void verify_all(const Store& store, BlockIo& io, uint64_t memory_bytes = uint64_t{16} << 20);

}  // namespace headrace::storage

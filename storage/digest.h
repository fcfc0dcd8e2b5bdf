// One line that stands for what a run has learned: equal digests mean equal models.
#pragma once

#include <cstdint>
#include <string>

#include "storage/block_io.h"
#include "storage/store.h"

namespace headrace::storage {

// XXH3-128, 32 hexadecimal digits, over the committed step and, in the order of their names, each tensor's
// (each part's) name, shape and the bytes of each of its planes in element order, with the plane's name. It
// does not depend on slots, shards, block sizes or how tensors are bundled. Checksums are verified on the
// way: kCorrupt. Reads with a few buffers of one plane of a block each, `memory_bytes` at most where that
// holds two; nothing may be written meanwhile.
std::string digest(const Store& store, BlockIo& io, uint64_t memory_bytes = uint64_t{16} << 20);

// Reads every plane of every block's committed content and checks it; throws kCorrupt at the first damage.
void verify_all(const Store& store, BlockIo& io, uint64_t memory_bytes = uint64_t{16} << 20);

}  // namespace headrace::storage

// Checksums of blocks: XXH3 with 64 bits over each 64 KiB of a plane, bound to what the bytes are: block,
// slot, position and the step that wrote them. So a lost, stale or misplaced write is caught as well as a
// flipped bit, even where two blocks hold equal bytes. Pure functions for any thread; they do not fail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "storage/layout.h"

namespace headrace::storage {

// What a chunk is. Equal for equal runs: it holds no run id, path or time.
struct ChunkIdentity {
  uint32_t object = 0;  // the block; what the caller counts for other kinds
  uint32_t slot = 0;    // kSpillSlot for spilled extents
  uint32_t chunk = 0;   // counted within the object
  uint64_t step = 0;    // that wrote it
};

inline constexpr uint32_t kSpillSlot = 0xffffffff;

// Never 0, which the store takes for "not yet computed".
uint64_t chunk_checksum(const ChunkIdentity& identity, std::span<const std::byte> data);

// Checksums of `data` cut into chunks of kChecksumChunk bytes (the last may be shorter), for extents that are
// one plane: spilled activations and gradients. `sums` has one place a chunk; `identity.chunk` is the
// first's.
void checksum_extent(ChunkIdentity identity, std::span<const std::byte> data, std::span<uint64_t> sums);
// The index of the first chunk whose checksum differs, or sums.size().
size_t first_mismatch(ChunkIdentity identity, std::span<const std::byte> data,
                      std::span<const uint64_t> sums);

// Where chunk `chunk` (counted from the first of `range`) lies: bytes from the start of the range.
struct ChunkSpan {
  uint32_t index = 0;  // counted within the block's slot
  uint64_t offset = 0, bytes = 0;
};
ChunkSpan chunk_in_range(const BlockLayout& block, PlaneRange range, uint32_t chunk);
uint32_t chunks_in_range(const BlockLayout& block, PlaneRange range);

// 64 bits over arbitrary bytes: headers and small records.
uint64_t checksum_bytes(std::span<const std::byte> data, uint64_t seed = 0);

}  // namespace headrace::storage

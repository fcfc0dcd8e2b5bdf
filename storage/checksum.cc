#include "storage/checksum.h"

#include <algorithm>
#include <bit>

#include "storage/error.h"
#include "storage/xxh3.h"

namespace headrace::storage {

static_assert(std::endian::native == std::endian::little, "on disk everything is little-endian");

namespace {

uint64_t seed_of(const ChunkIdentity& identity) {
  const uint64_t words[3] = {identity.object | uint64_t{identity.slot} << 32, identity.chunk, identity.step};
  return XXH3_64bits(words, sizeof words);
}

std::span<const std::byte> chunk_of(std::span<const std::byte> data, size_t chunk) {
  const size_t first = std::min(data.size(), chunk * kChecksumChunk);
  return data.subspan(first, std::min<size_t>(kChecksumChunk, data.size() - first));
}

}  // namespace

uint64_t chunk_checksum(const ChunkIdentity& identity, std::span<const std::byte> data) {
  const uint64_t sum = XXH3_64bits_withSeed(data.data(), data.size(), seed_of(identity));
  return sum == 0 ? 1 : sum;
}

uint64_t checksum_bytes(std::span<const std::byte> data, uint64_t seed) {
  return XXH3_64bits_withSeed(data.data(), data.size(), seed);
}

void checksum_extent(ChunkIdentity identity, std::span<const std::byte> data, std::span<uint64_t> sums) {
  HEADRACE_CHECK(sums.size() == (data.size() + kChecksumChunk - 1) / kChecksumChunk);
  for (size_t i = 0; i < sums.size(); i++, identity.chunk++)
    sums[i] = chunk_checksum(identity, chunk_of(data, i));
}

size_t first_mismatch(ChunkIdentity identity, std::span<const std::byte> data,
                      std::span<const uint64_t> sums) {
  HEADRACE_CHECK(sums.size() == (data.size() + kChecksumChunk - 1) / kChecksumChunk);
  for (size_t i = 0; i < sums.size(); i++, identity.chunk++) {
    if (sums[i] != chunk_checksum(identity, chunk_of(data, i))) return i;
  }
  return sums.size();
}

uint32_t chunks_in_range(const BlockLayout& block, PlaneRange range) {
  const PlaneExtent& last = block.planes[range.last - 1];
  return last.first_chunk + last.chunks - block.planes[range.first].first_chunk;
}

ChunkSpan chunk_in_range(const BlockLayout& block, PlaneRange range, uint32_t chunk) {
  const uint32_t index = block.planes[range.first].first_chunk + chunk;
  for (uint32_t p = range.first; p < range.last; p++) {
    const PlaneExtent& plane = block.planes[p];
    if (index >= plane.first_chunk + plane.chunks) continue;
    const uint64_t within = (index - plane.first_chunk) * kChecksumChunk;
    return {index, plane.offset - block.planes[range.first].offset + within,
            std::min(kChecksumChunk, plane.padded_bytes - within)};
  }
  HEADRACE_CHECK(false, "a chunk beyond its range");
}

}  // namespace headrace::storage

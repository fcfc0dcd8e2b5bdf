// The headers that begin a shard's values, as they lie on disk (little-endian; docs/formats.md). Shared by
// the files that write and read them.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "storage/checksum.h"
#include "storage/layout.h"

namespace headrace::storage {

inline constexpr std::array<char, 8> kBlockMagic = {'h', 'e', 'a', 'd', 'r', 'b', 'l', 'k'};
inline constexpr std::array<char, 8> kShardMagic = {'h', 'e', 'a', 'd', 'r', 's', 'h', 'd'};
inline constexpr uint32_t kShardVersion = 1;
inline constexpr uint64_t kLmdbPageHeader = 16;  // bytes before a value on the first page of its run

// Of a block's record; the rest of the page is zero.
struct BlockHeader {
  std::array<char, 8> magic = kBlockMagic;
  uint32_t version = kShardVersion;
  uint32_t shard = 0;
  std::array<char, 32> run_id{};
  uint32_t block = 0, slot = 0;
  uint64_t payload_bytes = 0;
  uint64_t checksum = 0;  // of the bytes before it
};
static_assert(sizeof(BlockHeader) == 72);

// The shard's own record, all of its value.
struct ShardHeader {
  std::array<char, 8> magic = kShardMagic;
  uint32_t version = kShardVersion;
  uint32_t shard = 0;
  std::array<char, 32> run_id{};
  uint32_t shards = 0, reserved = 0;
  uint64_t records = 0;  // of blocks
  uint64_t checksum = 0;
};
static_assert(sizeof(ShardHeader) == 72);

template <typename Header>
uint64_t header_checksum(const Header& header) {
  return checksum_bytes(std::as_bytes(std::span(&header, 1)).first(offsetof(Header, checksum)));
}

// Keys sort in the order in which records are laid out.
inline constexpr const char* kShardKey = "0-shard";
std::string block_key(BlockId block, uint32_t slot);  // "slot1-block-0000000012"

}  // namespace headrace::storage

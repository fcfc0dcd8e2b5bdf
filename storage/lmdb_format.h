// LMDB 0.9's data file, format version 1, on a 64-bit little-endian machine, as far as the checker reads it.
#pragma once

#include <cstdint>
#include <type_traits>

namespace headrace::storage::lmdb {

inline constexpr uint32_t kMagic = 0xBEEFC0DE;
inline constexpr uint32_t kDataVersion = 1;
inline constexpr uint64_t kNoPage = ~uint64_t{0};  // the root of an empty tree
inline constexpr uint32_t kMaxDepth = 32;          // LMDB's cursor stack
inline constexpr uint32_t kMaxKey = 511;
inline constexpr uint32_t kMinPageBytes = 512, kMaxPageBytes = 32768;

enum PageFlags : uint16_t { kBranch = 0x01, kLeaf = 0x02, kOverflow = 0x04, kMeta = 0x08 };
enum NodeFlags : uint16_t { kBigData = 0x01 };
inline constexpr uint16_t kIntegerKey = 0x08;  // the flag of the tree of free pages
inline constexpr uint16_t kNoSubdirectory = 0x4000;

struct PageHeader {
  uint64_t number;
  uint16_t pad;
  uint16_t flags;
  uint16_t lower, upper;  // bounds of free space; together the page count of an overflow run
  uint32_t run_pages() const { return lower | uint32_t{upper} << 16; }
};
static_assert(sizeof(PageHeader) == 16);

struct Tree {
  uint32_t pad;  // the page size in the tree of free pages
  uint16_t flags;
  uint16_t depth;
  uint64_t branch_pages, leaf_pages, overflow_pages, entries, root;
};
static_assert(sizeof(Tree) == 48);

struct Meta {
  uint32_t magic, version;
  uint64_t address, map_bytes;
  Tree free, main;
  uint64_t last_page, transaction;
};
static_assert(sizeof(Meta) == 136 && std::is_trivially_copyable_v<Meta>);

struct NodeHeader {
  uint16_t low, high, flags, key_bytes;
  uint64_t child() const { return low | uint64_t{high} << 16 | uint64_t{flags} << 32; }  // of a branch
  uint32_t value_bytes() const { return low | uint32_t{high} << 16; }                    // of a leaf
};
static_assert(sizeof(NodeHeader) == 8);

}  // namespace headrace::storage::lmdb

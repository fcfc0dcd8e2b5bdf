// The schedule of a step: which entries its operations touch, in order. Recorded by a dry run of the model's
// code, it is what the cache is planned from and what the running code is checked against.
//
// An entry is a contiguous piece of memory that the cache may hold: a block's weights, its moments, its
// gradient, or a temporary (an activation or an operation's workspace).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/layout.h"

namespace headrace::stream {

using storage::BlockId;

using EntryId = uint32_t;
using OpIndex = uint64_t;  // counts operations over all programs of a session
inline constexpr OpIndex kNever = ~OpIndex{0};
inline constexpr EntryId kNoEntry = ~EntryId{0};

enum class EntryKind : uint8_t { kWeights, kMoments, kGradient, kTemporary };

// Numbers entries: three for each block, then temporaries. Programs that follow each other take their
// temporaries from two alternating (interleaved) ranges, so that the future can be recorded while the present
// runs.
class EntrySpace {
 public:
  explicit EntrySpace(uint32_t block_count) : blocks_(block_count) {}

  EntryId weights(BlockId block) const { return block; }
  EntryId moments(BlockId block) const { return blocks_ + block; }
  EntryId gradient(BlockId block) const { return 2 * blocks_ + block; }
  EntryId temporary(uint32_t index, uint32_t parity) const { return 3 * blocks_ + 2 * index + parity; }
  uint32_t temporary_index(EntryId id) const { return (id - 3 * blocks_) / 2; }
  uint32_t temporary_parity(EntryId id) const { return (id - 3 * blocks_) % 2; }
  EntryKind kind(EntryId id) const {
    return id >= 3 * blocks_ ? EntryKind::kTemporary : EntryKind(id / blocks_);
  }
  // Whether the store keeps it: a block's weights or moments.
  bool stored(EntryId id) const { return id < 2 * blocks_; }
  BlockId block(EntryId id) const { return id % blocks_; }  // of an entry that is not a temporary
  // Number of entries when programs have at most so many temporaries.
  uint32_t size(size_t temporaries) const { return 3 * blocks_ + 2 * uint32_t(temporaries); }

 private:
  uint32_t blocks_;
};

enum class AccessMode : uint8_t {
  kRead,
  kModify,  // reads and writes
  kCreate,  // the entry comes into being: its memory is undefined before
};

struct Access {
  EntryId entry = kNoEntry;
  AccessMode mode = AccessMode::kRead;
  bool last = false;  // the entry is dead afterwards: its content is dropped
};

enum class OpKind : uint8_t {
  kCompute,
  kUpdate,  // the optimizer of a block: its new content goes to the store when the operation completes
};

struct Op {
  OpKind kind = OpKind::kCompute;
  uint32_t first_access = 0, access_count = 0;
};

// What one step does. Entries are listed with their sizes because temporaries differ between programs.
struct Program {
  std::vector<Op> ops;
  std::vector<Access> accesses;
  std::vector<uint64_t> temporary_bytes;  // by index
  std::vector<uint32_t> contributions;    // to the gradient of each block
  uint32_t parity = 0;                    // range that its temporaries are numbered in
  double flops = 0;                       // of its matrix products

  std::span<const Access> accesses_of(const Op& op) const {
    return {accesses.data() + op.first_access, op.access_count};
  }
};

// Sizes of entries in bytes, as the cache holds them.
class EntrySizes {
 public:
  virtual ~EntrySizes() = default;
  virtual uint64_t entry_bytes(EntryId id) const = 0;  // of an entry that is not a temporary
};

// Marks the last access of every temporary.
void mark_last_accesses(Program& program, const EntrySpace& space);

}  // namespace headrace::stream

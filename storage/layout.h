// How tensors are cut into blocks, and what a block's record holds. Pure arithmetic; no I/O.
//
// A tensor is stored as a matrix [rows, columns], cut along its rows into blocks. A block's record is a
// sequence of planes, each holding one value an element of the block (row-major), or one a group of elements,
// and each padded with zeros to kPlaneAlignment. The one-dimensional tensors of a layer share one record: a
// bundle, stored as [elements, 1] in one block, with parts that say which elements belong to which named
// tensor; a group there may belong to two.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace headrace::storage {

inline constexpr uint64_t kPlaneAlignment = 4096;      // bytes
inline constexpr uint64_t kChecksumChunk = 64 * 1024;  // bytes of a plane under one checksum
inline constexpr uint32_t kMostElementBytes = 16;

using BlockId = uint32_t;   // index of a block in the run, in the order of the tensor table
using TensorId = uint32_t;  // index in the tensor table

struct Plane {
  std::string name;            // "weight.high", "weight.low", "moment1", "moment2"
  uint32_t element_bytes = 0;  // of a value
  uint32_t group = 1;          // consecutive elements that share a value: of a block, at its end maybe fewer
  uint64_t values(uint64_t elements) const { return elements / group + (elements % group != 0 ? 1 : 0); }
  bool operator==(const Plane&) const = default;
};

struct TensorPart {
  std::string name;  // Hugging Face's name: "h.0.ln_1.weight"
  std::vector<uint64_t> shape;
  uint64_t first_element = 0;  // in the stored matrix, row-major
  bool operator==(const TensorPart&) const = default;
};

struct TensorSpec {
  std::string name;
  uint64_t rows = 0, columns = 0;
  uint64_t block_rows = 0;  // rows of a block; the last block may have fewer
  uint32_t slots = 2;       // 2 trained, 1 frozen
  std::vector<Plane> planes;
  std::vector<TensorPart> parts;  // in element order, without gaps; a matrix has one, itself
  bool operator==(const TensorSpec&) const = default;
};

struct PlaneExtent {
  uint64_t offset = 0;                   // bytes from the start of the payload; a multiple of kPlaneAlignment
  uint64_t bytes = 0;                    // content, without padding
  uint64_t padded_bytes = 0;             // a multiple of kPlaneAlignment
  uint32_t first_chunk = 0, chunks = 0;  // checksums: one for each kChecksumChunk of padded_bytes
};

struct BlockLayout {
  BlockId id = 0;
  TensorId tensor = 0;
  uint64_t first_row = 0, rows = 0, elements = 0;
  uint32_t slots = 2;
  std::vector<PlaneExtent> planes;
  uint64_t payload_bytes = 0;  // all planes with their padding
  uint32_t chunks = 0;         // checksums of one slot
};

// A contiguous range of a block's planes: [first, last).
struct PlaneRange {
  uint32_t first = 0, last = 0;
};

class Layout {
 public:
  Layout() = default;
  // Throws Error (kUsage) for a table that makes no sense: zero sizes, overflows, more than 2^32 blocks,
  // parts that do not cover the tensor, names that repeat.
  explicit Layout(std::vector<TensorSpec> tensors);

  std::span<const TensorSpec> tensors() const { return tensors_; }
  std::span<const BlockLayout> blocks() const { return blocks_; }
  const BlockLayout& block(BlockId id) const { return blocks_[id]; }
  const TensorSpec& tensor(TensorId id) const { return tensors_[id]; }
  BlockId first_block(TensorId id) const { return first_block_[id]; }
  uint32_t block_count(TensorId id) const { return first_block_[id + 1] - first_block_[id]; }

  uint64_t element_count() const { return element_count_; }                 // of all tensors
  uint64_t payload_bytes() const { return payload_bytes_; }                 // of one slot of every block
  static uint64_t range_bytes(const BlockLayout& block, PlaneRange range);  // with padding

 private:
  std::vector<TensorSpec> tensors_;
  std::vector<BlockLayout> blocks_;
  std::vector<BlockId> first_block_;  // one more than tensors
  uint64_t element_count_ = 0, payload_bytes_ = 0;
};

}  // namespace headrace::storage

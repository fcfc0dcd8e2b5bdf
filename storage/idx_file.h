// Arrays of bytes in the idx files of MNIST and its relatives, as they come: packed by gzip or not.
//
// A file is two zero bytes, the type (8: unsigned bytes, the only one read here), the number of dimensions,
// each dimension as 32 bits with the highest byte first, and the elements in C order. A packed file is
// unpacked once into a file without a name, so that its rows can be read at any place in constant memory.
//
// Ownership: holds its file. Threads: reading may happen on several at once. Failure: Error (kUsage) that
// names the file and the place; too little space for unpacking is refused (kRefused) before it begins.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/file.h"

namespace headrace::storage {

struct IdxHeader {
  std::vector<uint64_t> shape = {};  // at least one dimension, none of them zero
  uint64_t elements = 0;
  uint64_t bytes = 0;  // of the header
};

// `bytes`: the beginning of a file, of at least kMostIdxHeader bytes or all there are. `path` stands for the
// file in messages.
inline constexpr uint64_t kMostIdxDimensions = 8;
inline constexpr uint64_t kMostIdxHeader = 4 + 4 * kMostIdxDimensions;
IdxHeader parse_idx_header(std::span<const std::byte> bytes, const std::string& path);

class IdxFile {
 public:
  // Packed files are unpacked in `scratch_folder`.
  static IdxFile open(const std::string& path, const std::string& scratch_folder);

  const std::string& path() const { return path_; }
  std::span<const uint64_t> shape() const { return header_.shape; }
  uint64_t rows() const { return header_.shape[0]; }
  uint64_t columns() const { return header_.elements / header_.shape[0]; }  // elements of a row
  // Elements from `first` on, as many as `to` has places.
  void read(uint64_t first, std::span<std::byte> to) const;

 private:
  IdxFile() = default;

  std::string path_;
  IdxHeader header_;
  File file_;  // the user's, or the unpacked copy
  uint64_t data_offset_ = 0;
};

}  // namespace headrace::storage

// Arrays in NumPy's .npy files (format 1.0, 2.0, 3.0): little-endian numbers in C order. The header is parsed
// and never executed; arrays of Python objects, which are pickles, are refused. Elements are read in pieces,
// so that memory does not grow with the file.
//
// Ownership: holds its file. Threads: reading may happen on several at once. Failure: Error (kUsage) that
// names the file for an array that is none, is cut short or has a type or order that is not read here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "storage/element_type.h"
#include "storage/file.h"

namespace headrace::storage {

struct NpyHeader {
  ElementType type = ElementType::kF32;  // a bool, an integer, or a float of 16, 32 or 64 bits
  std::vector<uint64_t> shape = {};      // empty: a single number
  uint64_t elements = 0;                 // elements * element_bytes(type) does not overflow
};

inline constexpr uint64_t kMostNpyHeader = uint64_t{1} << 20;  // bytes

// `text`: the dictionary behind magic, version and length. `path` stands for the file in messages.
NpyHeader parse_npy_header(std::string_view text, const std::string& path);

class NpyFile {
 public:
  // A regular file.
  static NpyFile open(const std::string& path);
  explicit NpyFile(File file);

  const std::string& path() const { return file_.path(); }
  ElementType type() const { return header_.type; }
  std::span<const uint64_t> shape() const { return header_.shape; }
  std::string shape_text() const;  // "[60000, 784]"
  uint64_t elements() const { return header_.elements; }
  uint64_t rows() const;     // the first dimension; 1 of a single number
  uint64_t columns() const;  // elements of a row: the product of the other dimensions
  bool has_integers() const;

  // Elements from `first` on in C order, as many as `to` has places, as the file's type.
  void read_bytes(uint64_t first, std::span<std::byte> to) const;
  // The same as numbers. Values of another type are rounded to the nearest float.
  void read_floats(uint64_t first, std::span<float> to) const;
  // Of integers and truth values alone; Error (kUsage) for a number beyond 2^63, which it names.
  void read_integers(uint64_t first, std::span<int64_t> to) const;

 private:
  File file_;
  NpyHeader header_;
  uint64_t data_offset_ = 0;
};

}  // namespace headrace::storage

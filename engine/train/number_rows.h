// Rows of numbers in a file, read at any place: what a table's features and targets come from.
//
// Threads: reading may happen on several at once. Failure: Error (kUsage) for what the file is, when it is
// opened; kFailed for a file that changes later.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace headrace::train {

class NumberRows {
 public:
  virtual ~NumberRows() = default;
  const std::string& path() const { return path_; }
  uint64_t rows() const { return rows_; }
  uint64_t columns() const { return columns_; }
  // Whole rows from `first` on, as many as `to` has places for.
  virtual void read_floats(uint64_t first, std::span<float> to) const = 0;
  virtual void read_integers(uint64_t first, std::span<int64_t> to) const = 0;
  virtual bool has_integers() const = 0;

 protected:
  NumberRows(std::string path, uint64_t rows, uint64_t columns)
      : path_(std::move(path)), rows_(rows), columns_(columns) {}

 private:
  std::string path_;
  uint64_t rows_, columns_;
};

// Bytes of an idx file: floats are a 255th of them.
std::unique_ptr<NumberRows> open_idx_rows(const std::string& path, const std::string& scratch_folder);
std::unique_ptr<NumberRows> open_npy_rows(const std::string& path);

}  // namespace headrace::train

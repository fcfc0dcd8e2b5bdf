// Space of the spill files, given out to entries that leave memory before they are dead. Bookkeeping alone;
// the bytes move through block I/O.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace headrace::stream {

struct SpillExtent {
  uint32_t file = 0;
  uint64_t offset = 0, bytes = 0;
  uint64_t after_ops = 0;  // may be overwritten once so many operations have completed
};

class SpillSpace {
 public:
  explicit SpillSpace(uint32_t files) : free_(files), end_(files, 0) {}

  SpillExtent take(uint64_t bytes);
  void give_back(const SpillExtent& extent, uint64_t after_ops);
  uint64_t file_bytes(uint32_t file) const { return end_[file]; }  // the most that was ever in use

 private:
  std::vector<std::map<uint64_t, SpillExtent>> free_;  // by offset
  std::vector<uint64_t> end_;
  uint32_t next_file_ = 0;
};

}  // namespace headrace::stream

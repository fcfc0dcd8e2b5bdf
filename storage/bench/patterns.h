// The order in which a job touches its files: fio's patterns, and lists. Pure arithmetic; no I/O.
//
// Threads: one at a time (see Pattern).
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/bench/job.h"

namespace headrace::bench {

// fio's --rw.
enum class ReadWrite : uint8_t { kRead, kWrite, kMixed, kRandomRead, kRandomWrite, kRandomMixed };

// "read", "write", "rw", "randread", "randwrite", "randrw".
std::string_view read_write_name(ReadWrite rw);
std::optional<ReadWrite> parse_read_write(std::string_view name);  // also fio's "readwrite"
bool is_random(ReadWrite rw);
bool reads(ReadWrite rw);
bool writes(ReadWrite rw);

struct FilePatternOptions {
  ReadWrite rw = ReadWrite::kRead;
  std::vector<storage::FileIndex> files;  // blocks go round them, as a store's go round its shards
  uint64_t file_bytes = 0;                // of each file; a multiple of block_bytes
  uint64_t block_bytes = 0;
  uint32_t mix_read_percent = 50;  // of the requests of a mixed pattern
  bool endless = false;            // begins again at the end
  uint64_t seed = 1;               // of the random order
};

// As many requests as the files have blocks. Each direction goes through the blocks in its own order: in
// sequence, or in a random order that meets every block once. Where a pattern mixes, the directions alternate
// as evenly as their shares allow, and together they make as many requests as there are blocks.
class FilePattern final : public Pattern {
 public:
  explicit FilePattern(FilePatternOptions options);
  bool next(Access& access) override;
  uint64_t requests() const { return blocks_; }  // before the end, or before it begins again

 private:
  uint64_t place(uint64_t turn, uint64_t direction) const;

  FilePatternOptions options_;
  uint64_t blocks_ = 0;
  uint64_t done_ = 0;           // requests since it began (again)
  uint64_t turns_[2] = {0, 0};  // requests of each direction: reads, writes; never set back
  uint32_t read_share_ = 0;     // percent
  uint32_t read_credit_ = 0;
};

// The requests of a list, in its order.
class ListPattern final : public Pattern {
 public:
  explicit ListPattern(std::vector<Access> list, bool endless = false)
      : list_(std::move(list)), endless_(endless) {}
  bool next(Access& access) override;

 private:
  std::vector<Access> list_;
  size_t next_ = 0;
  bool endless_ = false;
};

// A permutation of [0, count) by its seed: where `index` goes. A Feistel network over the next power of four,
// walked until it falls into the range.
uint64_t permuted(uint64_t index, uint64_t count, uint64_t seed);

}  // namespace headrace::bench

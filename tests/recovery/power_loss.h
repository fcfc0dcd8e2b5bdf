// What a drive may hold after the power went at some moment of a recording: everything that was synced
// before, and of what was written since any part, in any order, torn at sectors or pages; names too, by
// themselves (tests/recovery/file_tree.h).
//
// Files are whole in memory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "tests/recovery/file_tree.h"
#include "tests/recovery/recording.h"

namespace headrace::testing {

using FileContent = std::vector<std::byte>;

class PowerLoss {
 public:
  // Of a recording that began with an empty directory in the watched one.
  PowerLoss(std::vector<RecordedEvent> events, const std::string& directory);

  size_t events() const { return events_.size(); }
  // Goes on until `count` events have happened; never back.
  void advance(size_t count);
  size_t writes_in_doubt() const { return pending_.size(); }  // not known to be on disk
  size_t names_in_doubt() const { return tree_.in_doubt(); }
  // The last step whose line has begun to be appended to metrics.jsonl, which follows its commit; 0: none.
  uint64_t acknowledged() const { return acknowledged_; }
  // One of the states that the drive may be in now: all paths, directories without content.
  std::map<std::string, std::optional<FileContent>> lose_power(std::mt19937_64& random) const;

 private:
  struct Pending {
    uint64_t event = 0;  // that began it
    FileTree::Node file = FileTree::kNone;
    bool done = false;
  };
  struct Covered {
    std::vector<uint64_t> writes, names;
  };
  void begin(size_t index);
  void end(const RecordedEvent& event);
  void make_sure(const std::vector<uint64_t>& writes);
  void apply(FileContent& file, const RecordedEvent& write, uint64_t grain_bytes,
             std::mt19937_64* random) const;

  std::vector<RecordedEvent> events_;
  std::vector<bool> ended_;  // by event: a call that succeeded began as it
  FileTree tree_;
  std::map<FileTree::Node, FileContent> contents_;  // that are sure
  std::vector<Pending> pending_;                    // writes and cuts, in the order of their beginning
  std::map<uint64_t, Covered> covered_;             // by the event that began a sync: what it makes sure
  size_t next_ = 0;
  uint64_t acknowledged_ = 0;
};

}  // namespace headrace::testing

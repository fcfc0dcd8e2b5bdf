// What a drive may hold after the power went at some moment of a recording: everything that was flushed
// before, and of what was written since any part, in any order, torn at sectors or pages.
//
// Files are whole in memory. Directory entries are taken as durable at once: what is renamed has its new name
// whatever became of its content.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/recovery/recording.h"

namespace headrace::testing {

using FileContent = std::vector<std::byte>;

class PowerLoss {
 public:
  // `files`: as they lay when the recording began, by path.
  PowerLoss(std::vector<RecordedEvent> events, std::map<std::string, FileContent> files);

  size_t events() const { return events_.size(); }
  // Goes on until `count` events have happened; never back.
  void advance(size_t count);
  size_t writes_in_doubt() const { return pending_.size(); }  // not known to be flushed
  // The last step whose line has begun to be appended to metrics.jsonl, which follows its commit; 0: none.
  uint64_t acknowledged() const { return acknowledged_; }
  // One of the states that the drive may be in now: the files that differ from flushed().
  std::map<std::string, FileContent> lose_power(std::mt19937_64& random) const;
  const std::map<std::string, FileContent>& flushed() const { return files_; }

 private:
  struct Pending {
    uint64_t event = 0;  // that began it
    std::string path;    // of its file, by its name of now
    bool done = false;
  };
  void begin(size_t index);
  void end(const RecordedEvent& event);
  void rename(const std::string& from, const std::string& to);
  void apply(FileContent& file, const RecordedEvent& write, uint64_t grain_bytes,
             std::mt19937_64* random) const;

  std::vector<RecordedEvent> events_;
  std::map<std::string, FileContent> files_;           // flushed
  std::vector<Pending> pending_;                       // writes and cuts, in the order of their beginning
  std::map<uint64_t, std::vector<uint64_t>> covered_;  // by the event that began a sync: what it flushes
  size_t next_ = 0;
  uint64_t acknowledged_ = 0;
};

}  // namespace headrace::testing

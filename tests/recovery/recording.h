// A recording of all that a program writes and syncs below a directory, in the one order in which the calls
// began and ended. What was written before a call began is known to be older than the call; what calls
// overlap in time is not ordered.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "tests/recovery/system_calls.h"

namespace headrace::testing {

struct RecordedEvent {
  bool begins = true;  // otherwise the call that began as event `begun` has ended, with success
  uint64_t begun = 0;  // of an end: index of its beginning
  CallKind kind = CallKind::kWrite;
  bool durable = false;  // of a write: on disk when the call ends
  std::string path, target;
  uint64_t offset = 0;
  std::vector<std::byte> data;
};

// Writes a recording to a file. Threads: any.
class Recorder final : public CallWatcher {
 public:
  explicit Recorder(const std::string& file);
  ~Recorder() override;
  void before(const SystemCall& call) override;
  void after(const SystemCall& call) override;

 private:
  std::mutex mutex_;
  int descriptor_ = -1;
  uint64_t events_ = 0;
};

std::vector<RecordedEvent> read_recording(const std::string& file);

}  // namespace headrace::testing

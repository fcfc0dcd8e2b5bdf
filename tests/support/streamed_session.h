// Carries out random programs with a Streamer on files in memory, an operation at a time, and checks every
// byte that an operation sees against what was last written to that entry.
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <vector>

#include "engine/stream/cache.h"
#include "engine/stream/streamer.h"
#include "engine/train/preflight.h"
#include "storage/aligned_memory.h"
#include "tests/support/faulty_io.h"
#include "tests/support/memory_io.h"
#include "tests/support/stream_testing.h"

namespace headrace::testing {

class StreamedSession {
 public:
  // Everything follows from the seed; `faults` go to the I/O, whose completions come in random order.
  StreamedSession(uint64_t seed, std::vector<Fault> faults);

  // Runs all programs; throws what a Streamer throws. Content that is not what was last written counts in
  // wrong_contents().
  void run();

  int wrong_contents() const { return wrong_contents_; }
  const stream::PlannedBytes& planned() const { return planned_; }
  storage::IoCounters moved() const { return faulty_->counters(); }
  const FaultyIo& io() const { return *faulty_; }

 private:
  void run_program(size_t index);
  void do_operation(const stream::Program& program, const stream::Op& op, stream::OpIndex number);
  uint64_t bytes_of(stream::EntryId entry, const stream::Program& program) const;

  std::mt19937_64 random_;
  uint32_t blocks_;
  storage::Layout layout_;
  stream::EntrySpace space_;
  stream::BlockPlanes planes_;
  train::BlockEntrySizes sizes_;
  std::vector<stream::Program> programs_;
  std::vector<bool> deferred_;  // by program: whether its updates are written when they leave memory
  stream::SpillSpace spill_space_{2};
  std::unique_ptr<stream::CachePlanner> planner_;
  MemoryFiles files_;
  std::unique_ptr<storage::BlockIo> memory_io_;
  std::unique_ptr<FaultyIo> faulty_;
  std::unique_ptr<SimpleStore> store_;
  storage::AlignedMemory arena_;
  std::vector<uint64_t> versions_;  // by entry
  int wrong_contents_ = 0;
  stream::PlannedBytes planned_;
  std::unique_ptr<stream::Streamer> streamer_;  // last: it uses all of the above
};

}  // namespace headrace::testing

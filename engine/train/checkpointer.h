// Checkpoints that ride along with the training: a block is compressed from memory when the optimizer has
// just updated it, so that nothing is read for it; the checkpoint is published, beside the steps that follow,
// once the step that it is of has been committed.
//
// Threads: save() from the workers that update, for different blocks at the same time; committed() from the
// thread that commits; the rest from the training thread. Failure: a checkpoint that cannot be written (a
// full disk) is dropped, which take_notes() says; the training goes on.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "engine/stream/streamer.h"
#include "engine/train/options.h"
#include "engine/train/report.h"
#include "storage/block_io.h"
#include "storage/checkpoint_writer.h"
#include "storage/store.h"

namespace headrace::train {

class Checkpointer {
 public:
  struct Parts {
    storage::Store& store;
    storage::BlockIo& io;
    const SessionOptions& session;
    stream::BlockPlanes planes;
    std::string configuration;  // the run's options, for whoever restores
    uint32_t threads = 1;       // that update blocks
  };
  explicit Checkpointer(Parts parts);
  ~Checkpointer();  // waits for a publication; what is not committed is discarded
  static uint64_t memory_bytes(const storage::Layout& layout, const SessionOptions& session,
                               uint32_t threads);

  bool is_due(uint64_t step) const { return step % parts_.session.checkpoint_every == 0; }
  // The block's content of a step that is due, in the two entries that the cache holds of it. Runs on the
  // oneTBB arena of the caller.
  void save(uint64_t step, storage::BlockId block, const std::byte* weights, const std::byte* moments);
  // The step that is not published yet, if there is one: it is noted with a commit, and taken again after a
  // crash.
  std::optional<uint64_t> unpublished() const;
  void committed(uint64_t step);
  void wait();  // until nothing is being published

  // Saves the committed step by reading it, unless the checkpoint of step `due` is there: a crash came before
  // its publication, or just after.
  void retake(uint64_t due);

  CheckpointTotals totals() const;
  std::vector<std::string> take_notes();  // for people, since the last call

 private:
  enum class State : uint8_t { kIdle, kSaving, kFailed, kPublishing };

  bool enter(uint64_t step);
  void leave(const std::string& fault);
  storage::CheckpointTarget target(uint64_t step, bool is_committed);
  void begin(uint64_t step);
  void add(storage::BlockId block, const std::byte* weights, const std::byte* moments);
  void publish();
  void finish(uint64_t read_bytes);
  void drop(const std::string& why);
  void discard();

  Parts parts_;
  storage::CheckpointWriter writer_;
  std::mutex begin_mutex_;  // taken before mutex_
  mutable std::mutex mutex_;
  uint32_t saving_ = 0;  // calls of save() under way
  State state_ = State::kIdle;
  uint64_t step_ = 0;  // that is being saved or published
  CheckpointTotals totals_;
  std::vector<std::string> notes_;
  std::thread publisher_;
};

}  // namespace headrace::train

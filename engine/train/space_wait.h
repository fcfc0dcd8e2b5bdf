// A full disk during training: a pause where somebody can make room, else the end of the session, with
// nothing that was committed lost either way. Says how many bytes are missing where, and which old
// checkpoints could go.
//
// Threads: any; the listener is called by one at a time (SerialListener).
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>

#include "engine/train/report.h"
#include "storage/error.h"
#include "storage/space.h"

namespace headrace::train {

// Lets several threads tell a listener things.
class SerialListener final : public TrainListener {
 public:
  explicit SerialListener(TrainListener& listener) : listener_(listener) {}
  void narrate(const std::string& line) override;
  void working(const std::string& phase, double fraction) override;
  void step_done(const StepReport& report) override;
  void evaluated(const EvalSummary& summary) override;

 private:
  std::mutex mutex_;
  TrainListener& listener_;
};

// The session was asked to stop while it waited for space. What was committed stays.
class StoppedWhileWaiting : public Error {
 public:
  using Error::Error;
};

class SpaceWait final : public storage::SpaceWaiter {
 public:
  struct Options {
    bool waits = false;
    std::string run_dir;
  };
  SpaceWait(Options options, TrainListener& listener, const std::atomic<int>& stop);

  // Throws Error where it is not to wait, and StoppedWhileWaiting after a stop or end().
  void wait(const storage::SpaceError& error) override;
  void over() override;
  void started() override;
  void watch(const storage::Store& store);  // whose committed step messages name
  void end();                               // nobody waits any longer: the session is over

 private:
  std::string describe(const storage::SpaceError& error) const;

  Options options_;
  TrainListener& listener_;
  const std::atomic<int>& stop_;
  std::mutex mutex_;
  std::condition_variable changed_;
  const storage::Store* store_ = nullptr;
  bool started_ = false, ended_ = false, announced_ = false;
};

// Checkpoints below RUN/checkpoints that could be deleted to make room in `directory`, all but the newest:
// "checkpoints/step-000100 and 2 more in RUN, 36.0 MiB in all"; empty where there are none on that file
// system.
std::string old_checkpoints(const std::string& run_dir, const std::string& directory);

}  // namespace headrace::train

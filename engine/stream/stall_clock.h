// Where a step's wall time goes: an instant counts as computing while any operation computes, else as waiting
// for reads or writes while any operation waits for its entries.
#pragma once

#include <chrono>
#include <mutex>
#include <utility>

namespace headrace::stream {

struct StallTimes {
  double compute_seconds = 0, read_wait_seconds = 0, write_wait_seconds = 0;
};

class StallClock {
 public:
  void computing(int change);  // +1: an operation begins, -1: ends
  void waiting(int change, bool for_write);
  StallTimes take();  // since the last take()

 private:
  void settle();

  std::mutex mutex_;
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
  int computing_ = 0, reading_ = 0, writing_ = 0;
  StallTimes times_;
};

}  // namespace headrace::stream

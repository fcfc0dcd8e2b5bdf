#include "engine/stream/stall_clock.h"

namespace headrace::stream {

void StallClock::computing(int change) {
  std::lock_guard lock(mutex_);
  settle();
  computing_ += change;
}

void StallClock::waiting(int change, bool for_write) {
  std::lock_guard lock(mutex_);
  settle();
  (for_write ? writing_ : reading_) += change;
}

StallTimes StallClock::take() {
  std::lock_guard lock(mutex_);
  settle();
  return std::exchange(times_, {});
}

void StallClock::settle() {
  const auto now = std::chrono::steady_clock::now();
  const double passed = std::chrono::duration<double>(now - last_).count();
  last_ = now;
  if (computing_ > 0)
    times_.compute_seconds += passed;
  else if (writing_ > 0)
    times_.write_wait_seconds += passed;
  else if (reading_ > 0)
    times_.read_wait_seconds += passed;
}

}  // namespace headrace::stream

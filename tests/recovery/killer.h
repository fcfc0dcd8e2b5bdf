// Kills the process at a kill point, in the program that links system_calls.cc.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "tests/recovery/kill_points.h"

namespace headrace::testing {

// Kills the process at the `number`th call (from 1) of a name; with number 0 only counts.
class Killer final : public CallWatcher {
 public:
  Killer(std::string name, KillMoment moment, uint64_t number)
      : name_(std::move(name)), moment_(moment), number_(number) {}

  void before(const SystemCall& call) override;
  void after(const SystemCall& call) override;
  std::map<std::string, uint64_t> counts();

 private:
  std::string name_;
  KillMoment moment_;
  uint64_t number_;
  std::atomic<bool> due_{false};
  std::mutex mutex_;
  std::map<std::string, uint64_t> counts_;
};

}  // namespace headrace::testing

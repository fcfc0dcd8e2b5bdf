// Which faults to try on a training whose system calls are known: every kind that a call can meet, at every
// call. All of them, or an even sample.
#pragma once

#include <string>
#include <vector>

#include "tests/faults/system_calls.h"

namespace headrace::testing {

struct ListedFault {
  std::string kind;  // "pwrite: ENOSPC", "uring read: short"
  SystemFault fault;
  bool lies = false;   // says that it wrote what it did not: the content is lost, and only can be detected
  bool hangs = false;  // never answered
};

std::vector<ListedFault> faults_of(const std::vector<WatchedCall>& calls);

// At least two of each kind, `about` of them in all, evenly spread over each kind's calls.
std::vector<ListedFault> sample(const std::vector<ListedFault>& faults, size_t about);

}  // namespace headrace::testing

// Runs a piece of a test in a forked child, for what cannot be undone in a process: limits, seccomp filters,
// dropped privileges, death.
#pragma once

#include <functional>
#include <string>

namespace headrace::testing {

struct ChildResult {
  int exit_status = -1;  // -1: killed
  int signal = 0;
  std::string output;  // what `body` returned, or "threw: ..." of an exception (exit status 1)
};

// To be called while the test has no threads of its own.
ChildResult run_in_child(const std::function<std::string()>& body);

// In the child only: from now on the system call fails with `error_number`.
void forbid_system_call(int system_call_number, int error_number);

}  // namespace headrace::testing

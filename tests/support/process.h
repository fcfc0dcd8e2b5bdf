// Runs a program as a user would: arguments, environment, limits; captures what it says; kills it at a
// moment.
//
// Ownership: a Process that still runs when it is destroyed is killed and waited for. Failure: a check
// aborts, since a test cannot go on without its process.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace headrace::testing {

struct ProcessOptions {
  std::vector<std::string> arguments = {};
  std::map<std::string, std::string> environment = {};  // added to this process's own
  std::string directory = {};                           // to start in; empty: this one
  std::string standard_output = {};     // file or device to write to, such as "/dev/full"; empty: captured
  std::map<int, uint64_t> limits = {};  // RLIMIT_... -> soft limit
  std::function<void()> prepare = {};  // called in the child, last of all: drops rights, forbids system calls
};

struct ProcessResult {
  int exit_status = -1;  // -1: ended by a signal
  int signal = 0;
  std::string out, err;
  double seconds = 0;
  uint64_t peak_rss_bytes = 0;
};

class Process {
 public:
  Process(const std::string& program, const ProcessOptions& options);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  void send(int signal_number) const;
  // Reads what it writes for at most `time`; true when it has ended.
  bool wait_for(std::chrono::milliseconds time);
  // Reads on until standard output and error together hold `text`, or it has ended; true in the first case.
  bool wait_for_text(const std::string& text, std::chrono::milliseconds time);
  // Waits for the end, killing it after `time`.
  ProcessResult finish(std::chrono::milliseconds time = std::chrono::minutes(5));
  pid_t id() const { return id_; }

 private:
  void read_some(std::chrono::milliseconds time);
  bool ended();

  pid_t id_ = -1;
  int out_ = -1, err_ = -1;
  std::optional<int> status_;  // as waitpid gives it
  std::chrono::steady_clock::time_point start_;
  ProcessResult result_;
};

// Runs HEADRACE_BINARY to its end.
ProcessResult run_headrace(const std::string& binary, const std::vector<std::string>& arguments,
                           const std::string& directory = "");

}  // namespace headrace::testing

// The one exception of the project: a fault of the environment or of the user's input (disk, file,
// configuration, checkpoint). Faults of the program meet HEADRACE_CHECK, which is always on and aborts; no
// input from outside reaches one.
#pragma once

#include <stdexcept>
#include <string>

namespace headrace {

// What the process does about an error; the value is its exit status.
enum class ErrorKind {
  kFailed = 1,   // something went wrong while working
  kUsage = 2,    // a flag, a configuration file, an input file that cannot be used
  kRefused = 3,  // refused before anything was changed: memory, disk space, a lock
  kCorrupt = 4,  // bytes on disk are not what was written
};

class Error : public std::runtime_error {
 public:
  // `what`: what failed and on which file, with offset and length where there are any, and why (the
  // system's own text); `advice`: what the user can do next, a whole sentence. Both without a full stop.
  Error(ErrorKind kind, std::string what, std::string advice = "");

  ErrorKind kind() const { return kind_; }
  const std::string& advice() const { return advice_; }

 private:
  ErrorKind kind_;
  std::string advice_;
};

// "No space left on device" and so on, for an errno value. Safe on any thread.
std::string system_text(int error_number);

// Prints the condition and its place to standard error and aborts.
[[noreturn]] void check_failed(const char* condition, const char* file, int line, const std::string& detail);

}  // namespace headrace

#define HEADRACE_CHECK(condition, ...)                                                                    \
  do {                                                                                                    \
    if (!(condition)) ::headrace::check_failed(#condition, __FILE__, __LINE__, std::string{__VA_ARGS__}); \
  } while (false)

#include "tools/signals.h"

#include <unistd.h>

#include <csignal>
#include <string_view>

namespace headrace::tools {
namespace {

// A signal handler can reach nothing but a global.
std::atomic<int> stop_signal{0};
std::atomic<const char*> stop_message{
    "headrace: finishing and committing the step in flight; once more stops at once\n"};
static_assert(std::atomic<int>::is_always_lock_free, "a handler may not wait");
static_assert(std::atomic<const char*>::is_always_lock_free, "nor here");

void say(std::string_view text) {
  // Nothing can be done about a failure here.
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
}

extern "C" void stop(int signal_number) {
  int none = 0;
  if (stop_signal.compare_exchange_strong(none, signal_number)) {
    say("\n");
    say(stop_message.load());
    return;
  }
  std::signal(signal_number, SIG_DFL);
  ::raise(signal_number);  // delivered when this handler returns
}

}  // namespace

void say_when_stopping(const char* message) { stop_message = message; }

std::atomic<int>& watch_for_stop() {
  struct sigaction action {};
  action.sa_handler = stop;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  return stop_signal;
}

}  // namespace headrace::tools

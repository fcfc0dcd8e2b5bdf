// Stopping a session from outside: the first SIGINT or SIGTERM asks for it, a second one ends the process.
#pragma once

#include <atomic>

namespace headrace::tools {

// What the first signal prints, with a line feed; must live as long as the process.
void say_when_stopping(const char* message);

// Installs the handlers, and ignores SIGPIPE so that a closed pipe is an error of the write that met it. The
// flag becomes the signal's number. For the main thread, before others are started.
std::atomic<int>& watch_for_stop();

}  // namespace headrace::tools

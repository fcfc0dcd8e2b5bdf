// Starts a thread of a back end, with every signal blocked: signals are for the main thread, and an I/O call
// must not be interrupted by one.
#pragma once

#include <functional>
#include <thread>

namespace headrace::storage {

// Throws Error (kRefused) where the system allows no more threads.
std::thread start_io_thread(std::function<void()> body);

}  // namespace headrace::storage

#include "storage/io_thread.h"

#include <signal.h>

#include <system_error>
#include <utility>

#include "storage/error.h"

namespace headrace::storage {

std::thread start_io_thread(std::function<void()> body) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);  // the new thread inherits it
  std::thread thread;
  std::string failure;
  try {
    thread = std::thread(std::move(body));
  } catch (const std::system_error& error) {
    failure = error.code().message();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!thread.joinable())
    throw Error(ErrorKind::kRefused, "cannot start a thread for block I/O: " + failure,
                "Raise the limit on threads (ulimit -u, the container's pids limit)");
  return thread;
}

}  // namespace headrace::storage

#include "storage/bench/cpu_time.h"

#include <sys/resource.h>

#include "storage/error.h"

namespace headrace::bench {
namespace {

double seconds_of(const timeval& time) {
  return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
}

}  // namespace

CpuTime CpuTime::now() {
  rusage process{}, thread{};
  HEADRACE_CHECK(::getrusage(RUSAGE_SELF, &process) == 0 && ::getrusage(RUSAGE_THREAD, &thread) == 0);
  return {seconds_of(process.ru_utime), seconds_of(process.ru_stime),
          seconds_of(thread.ru_utime) + seconds_of(thread.ru_stime)};
}

}  // namespace headrace::bench

// Processor time, for what a job took of it.
#pragma once

namespace headrace::bench {

struct CpuTime {
  double user_seconds = 0, system_seconds = 0;  // of the process
  double caller_seconds = 0;                    // of the calling thread

  static CpuTime now();
};

}  // namespace headrace::bench

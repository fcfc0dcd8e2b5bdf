// A benchmark's report as text for people, as JSON for scripts, and as a page with plots. Pure functions.
#pragma once

#include <string>

#include "storage/bench/report.h"

namespace headrace::tools {

std::string bench_text(const bench::Report& report);

// One object, pretty-printed: "jobs" is fio's array, with fio's names and units for what fio has too.
std::string bench_json(const bench::Report& report);

// One page that needs nothing else: no network, no other file. Holds the text and the JSON, too.
std::string bench_html(const bench::Report& report);

// "2503 MB/s", of 10^6 bytes; "61.2 us".
std::string rate_text(double bytes_per_second);
std::string latency_text(uint64_t nanoseconds);

}  // namespace headrace::tools

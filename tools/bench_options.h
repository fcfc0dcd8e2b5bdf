// The options of `bench`, by fio's names where the meaning is fio's. Every fault is an Error (kUsage) that
// names the option and says what would do.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "storage/bench/bench.h"

namespace headrace::tools {

struct BenchRequest {
  bench::BenchOptions options;
  std::string html_path;  // empty: no report
  bool json = false, quiet = false;
  bool store_profile = true;
  std::set<std::string> given;  // names of the options that were given
};

struct BenchArguments {
  std::string help;  // not empty: print it, do nothing else
  BenchRequest request;
};

BenchArguments parse_bench_arguments(const std::vector<std::string>& arguments);

}  // namespace headrace::tools

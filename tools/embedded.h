// Files that are part of the program: CMakeLists.txt says which, cmake/embed.cmake makes sources of them.
#pragma once

#include <string_view>

namespace headrace::tools {

extern const std::string_view kChartLibrary;     // Chart.js, minified, with its notice of licence
extern const std::string_view kBenchReportPage;  // tools/bench_report.html

}  // namespace headrace::tools

#include <string>
#include <string_view>

#include "storage/text.h"
#include "tools/bench_report.h"
#include "tools/embedded.h"

namespace headrace::tools {
namespace {

std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '&':
        result += "&amp;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

// JSON inside of <script>: no character of it may end the element or begin another.
std::string json_for_script(std::string_view json) {
  std::string result;
  for (const char c : json) {
    switch (c) {
      case '<':
        result += "\\u003c";
        break;
      case '>':
        result += "\\u003e";
        break;
      case '&':
        result += "\\u0026";
        break;
      default:
        result += c;
    }
  }
  return result;
}

}  // namespace

std::string bench_html(const bench::Report& report) {
  std::string title = "Storage of";
  for (const bench::DirectoryFacts& directory : report.directories) title += " " + printable(directory.path);
  std::string page;
  std::string_view rest = kBenchReportPage;
  // Once through the page, so that what is put in is never taken for a place to put something in.
  while (!rest.empty()) {
    const size_t at = rest.find('@');
    const size_t end = at == std::string_view::npos ? at : rest.find('@', at + 1);
    if (end == std::string_view::npos) break;
    const std::string_view name = rest.substr(at + 1, end - at - 1);
    page += rest.substr(0, at);
    if (name == "TITLE") {
      page += escaped(title);
    } else if (name == "TEXT") {
      page += escaped(bench_text(report));
    } else if (name == "DATA") {
      page += json_for_script(bench_json(report));
    } else if (name == "CHART") {
      page += kChartLibrary;
    } else {
      page += rest.substr(at, end - at);  // no place: the second mark may begin one
      rest.remove_prefix(end);
      continue;
    }
    rest.remove_prefix(end + 1);
  }
  return page += rest;
}

}  // namespace headrace::tools

#include "storage/error.h"

#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace headrace {

Error::Error(ErrorKind kind, std::string what, std::string advice)
    : std::runtime_error(std::move(what)), kind_(kind), advice_(std::move(advice)) {}

std::string system_text(int error_number) { return std::generic_category().message(error_number); }

void check_failed(const char* condition, const char* file, int line, const std::string& detail) {
  std::fprintf(
      stderr, "headrace: broken invariant at %s:%d: %s %s\nThis is a defect of headrace; please report it.\n",
      file, line, condition, detail.c_str());
  std::abort();
}

}  // namespace headrace

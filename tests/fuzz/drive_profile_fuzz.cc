// The profile that a drive's measurement leaves.
#include "storage/drive_profile.h"

#include "tests/fuzz/fuzzing.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  std::string why;
  const auto profile = storage::parse_profile(fuzz::text_of(data, size), why);
  HEADRACE_CHECK(profile.has_value() == why.empty(), why);
  if (profile) HEADRACE_CHECK(storage::parse_profile(storage::profile_json(*profile), why).has_value(), why);
  return 0;
}

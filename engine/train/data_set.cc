#include "engine/train/data_set.h"

#include <fmt/format.h>

#include "storage/error.h"

namespace headrace::train {

void DataSet::read_features(uint64_t, std::span<float>) const {
  HEADRACE_CHECK(false, "a data set without features");
}

void DataSet::expect_fingerprint(const std::string& expected) const {
  if (expected == fingerprint()) return;
  throw Error(ErrorKind::kUsage,
              fmt::format("the data file {} is not the one that the run was made with (it is {}, and was {})",
                          path_, fingerprint(), expected),
              "name the run's own data, unchanged, with --data FILE, or start a new run");
}

}  // namespace headrace::train

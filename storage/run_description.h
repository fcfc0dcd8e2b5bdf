// What a run is, without opening it: read from its catalog in one short transaction, also while it is being
// trained. Takes no lock and looks at no shard. Failure: Error, as of reading a catalog.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/layout.h"

namespace headrace::storage {

struct RunDescription {
  std::string model_json;
  std::vector<std::string> shard_dirs;  // where they were last found
  uint64_t step = 0;                    // committed
  Layout layout;
  // What metrics.jsonl holds of the committed steps: this many bytes, then this text.
  uint64_t metrics_bytes = 0;
  std::string metrics_text;
};

RunDescription describe_run(const std::string& run_dir);

}  // namespace headrace::storage

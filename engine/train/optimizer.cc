#include "engine/train/optimizer.h"

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::train {

namespace {

struct Entry {
  std::string name;
  std::unique_ptr<Optimizer> (*make)(const RunOptions&);
};

const std::vector<Entry>& optimizers() {
  static const std::vector<Entry> table{{"adamw", make_adamw}};
  return table;
}

}  // namespace

std::unique_ptr<Optimizer> make_optimizer(const RunOptions& options) {
  std::vector<std::string> names;
  for (const Entry& entry : optimizers()) {
    if (entry.name == options.optimizer) return entry.make(options);
    names.push_back(entry.name);
  }
  throw Error(ErrorKind::kUsage, "unknown optimizer '" + printable(options.optimizer) + "'",
              suggestion(options.optimizer, names));
}

}  // namespace headrace::train

// What `headrace inspect` prints, for people and for scripts. Texts end with a line feed. Pure functions, but
// for those that read a source's content, which may throw Error.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "engine/inspect/difference.h"
#include "engine/inspect/statistics.h"
#include "storage/tensor_source.h"

namespace headrace::tools {

// Which tensors were asked for: shell patterns (* ? [...]; * also matches dots); none: all.
class TensorFilter {
 public:
  explicit TensorFilter(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {}
  bool matches(const std::string& name) const;
  // Their indices. Throws Error (kUsage) when a pattern matches none.
  std::vector<size_t> select(const storage::TensorSource& source) const;

 private:
  std::vector<std::string> patterns_;
};

std::string listing(const storage::TensorSource& source, const std::vector<size_t>& selected);
std::string listing_json(const storage::TensorSource& source, const std::vector<size_t>& selected);

struct TensorStatistics {
  std::string tensor, field, type;
  inspect::Statistics values;
  bool marks_pruned = false;  // by negative zeros
};
// `utf8`: draw histograms with blocks, else with ASCII.
std::string statistics_text(const std::vector<TensorStatistics>& statistics, bool utf8);
std::string statistics_json(const storage::SourceInfo& info, const std::vector<TensorStatistics>& statistics);

struct Verification {
  size_t tensors = 0, damaged = 0;
  uint64_t bytes = 0;               // read
  std::vector<std::string> faults;  // in sentences; not all, if they are a great many
};
// Reads everything that was selected; faults do not end it.
Verification verify_source(storage::TensorSource& source, const std::vector<size_t>& selected,
                           const std::function<void(double fraction)>& done);
std::string verification_text(const storage::SourceInfo& info, const Verification& verification);
std::string verification_json(const storage::SourceInfo& info, const Verification& verification);

std::string comparison_text(const storage::SourceInfo& a, const storage::SourceInfo& b,
                            const inspect::Comparison& comparison);
std::string comparison_json(const storage::SourceInfo& a, const storage::SourceInfo& b,
                            const inspect::Comparison& comparison);

// Whether the user's terminal takes UTF-8, by LC_ALL, LC_CTYPE and LANG.
bool writes_utf8();

}  // namespace headrace::tools

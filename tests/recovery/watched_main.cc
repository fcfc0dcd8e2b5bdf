// The program headrace with a watcher in front of its system calls, chosen by the environment:
//
//   HEADRACE_WATCHED      the directory whose files are watched
//   HEADRACE_KILL         "before:3:metrics.jsonl: write": dies there (tests/recovery/kill_points.h)
//   HEADRACE_COUNT        a file for how often each kill point was passed
//   HEADRACE_RECORD       a file for a recording of all calls (tests/recovery/recording.h)
#include <cstdlib>
#include <fstream>
#include <memory>

#include "tests/recovery/killer.h"
#include "tests/recovery/recording.h"
#include "tools/commands.h"

namespace headrace::testing {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

std::unique_ptr<Killer> make_killer(const std::string& spec) {
  if (spec.empty()) return std::make_unique<Killer>("", KillMoment::kBefore, 0);
  const size_t first = spec.find(':'), second = spec.find(':', first + 1);
  KillMoment moment = KillMoment::kBefore;
  for (const KillMoment candidate : {KillMoment::kBefore, KillMoment::kHalfway, KillMoment::kAfter})
    if (spec.substr(0, first) == kMomentNames[size_t(candidate)]) moment = candidate;
  return std::make_unique<Killer>(spec.substr(second + 1), moment, std::stoull(spec.substr(first + 1)));
}

int run(const std::vector<std::string>& arguments) {
  const std::string directory = environment("HEADRACE_WATCHED");
  if (directory.empty()) return tools::run_headrace(arguments);
  if (const std::string file = environment("HEADRACE_RECORD"); !file.empty()) {
    // Stays until the process has ended: threads may be about to make a call.
    static Recorder recorder(file);
    watch_system_calls(recorder, directory);
    return tools::run_headrace(arguments);
  }
  static const std::unique_ptr<Killer> killer = make_killer(environment("HEADRACE_KILL"));
  watch_system_calls(*killer, directory);
  const int status = tools::run_headrace(arguments);
  if (const std::string file = environment("HEADRACE_COUNT"); !file.empty()) {
    std::ofstream out(file);
    for (const auto& [name, count] : killer->counts()) out << count << ' ' << name << '\n';
  }
  return status;
}

}  // namespace
}  // namespace headrace::testing

int main(int count, char** arguments) {
  return headrace::testing::run({arguments + (count > 0 ? 1 : 0), arguments + count});
}

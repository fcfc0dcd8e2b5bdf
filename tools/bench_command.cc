#include <fmt/format.h>

#include <cerrno>
#include <fstream>

#include "storage/bench/bench.h"
#include "storage/bench/stored_profile.h"
#include "storage/error.h"
#include "storage/text.h"
#include "tools/bench_options.h"
#include "tools/bench_report.h"
#include "tools/bench_train_command.h"
#include "tools/commands.h"
#include "tools/memory_limit.h"
#include "tools/progress.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

void require_memory(const bench::BenchOptions& options) {
  const uint64_t needed = bench::largest_buffers(options);
  const AvailableMemory available = available_memory();
  if (needed <= available.bytes / 2) return;
  throw Error(
      ErrorKind::kRefused,
      fmt::format("the requests in flight take {} of buffers, more than half of the {} available ({})",
                  format_size(needed), format_size(available.bytes), available.limited_by),
      "Give less of --bs, --iodepth or --numjobs");
}

void write_page(const std::string& path, const std::string& page) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << page;
  file.close();
  if (file) return;
  throw Error(ErrorKind::kFailed,
              fmt::format("cannot write {}: {}", path, system_text(errno == 0 ? EIO : errno)),
              "Free space there, or name another file");
}

// For training and planning. That it cannot be stored spoils no measurement.
void store_profiles(const bench::Report& report, Progress& progress) {
  for (const bench::DirectoryFacts& facts : report.directories) {
    std::string why_not;
    const auto profile = bench::profile_of(report, facts.path, why_not);
    try {
      if (profile) storage::write_drive_profile(facts.path, *profile);
    } catch (const Error& error) {
      why_not = error.what();
    }
    progress.narrate(why_not.empty() ? fmt::format("{}/{} says from now on what suits this drive", facts.path,
                                                   storage::kProfileName)
                                     : fmt::format("no profile is stored in {}: {}", facts.path, why_not));
  }
}

}  // namespace

void run_bench(const std::vector<std::string>& arguments) {
  if (asks_for_training_pattern(arguments)) return run_bench_train(arguments);
  const BenchArguments parsed = parse_bench_arguments(arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  const BenchRequest& request = parsed.request;
  require_memory(request.options);

  say_when_stopping("headrace: ending the measurement; once more stops at once\n");
  std::atomic<int>& stop = watch_for_stop();
  Progress progress({request.json, request.quiet, terminal_style()}, 0, stop);
  bench::BenchListener listener;
  listener.working = [&](const std::string& phase, double fraction) { progress.working(phase, fraction); };
  const bench::Report report = bench::run_bench(request.options, listener, stop);
  progress.clear();
  if (!request.html_path.empty()) {
    write_page(request.html_path, bench_html(report));
    progress.narrate(fmt::format("{} shows it with plots", request.html_path));
  }
  print_result(request.json ? bench_json(report) : bench_text(report));
  if (report.stopped) throw Error(ErrorKind::kFailed, "stopped before all was measured");
  if (request.store_profile) store_profiles(report, progress);
}

}  // namespace headrace::tools

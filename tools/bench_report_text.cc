#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "storage/text.h"
#include "tools/bench_report.h"

namespace headrace::tools {
namespace {

using bench::Record;
using bench::Report;

constexpr size_t kSustainedRows = 20;
constexpr double kBarColumns = 40;

std::string place_of(const Record& record) {
  return record.directories.size() == 1
             ? printable(record.directories[0])
             : fmt::format("striped over {} directories", record.directories.size());
}

std::string mark(bench::Fitness fitness) {
  return fitness == bench::Fitness::kGood ? "ok" : fitness == bench::Fitness::kLimited ? "so-so" : "unfit";
}

std::string directory_text(const bench::DirectoryFacts& directory, const std::vector<bench::Finding>& list) {
  const std::string verdict = bench::worst(list) == bench::Fitness::kGood      ? "suits training"
                              : bench::worst(list) == bench::Fitness::kLimited ? "suits training, with limits"
                                                                               : "does not suit training";
  std::string text = fmt::format("{}: {}\n", printable(directory.path), verdict);
  for (const bench::Finding& finding : list) {
    text += fmt::format("  {:<7}{}\n", mark(finding.fitness), printable(finding.text, 500));
  }
  return text;
}

constexpr const char* kRow = "  {:<22}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>14}\n";

std::string header_row() {
  return fmt::format(fmt::runtime(kRow), "", "rate", "requests", "p50", "p95", "p99", "p99.9", "max", "CPU");
}

std::string direction_row(const std::string& name, const bench::DirectionResult& d, const Record& record) {
  const double seconds = record.result.seconds;
  const double requests = seconds > 0 ? static_cast<double>(d.requests) / seconds : 0;
  const double rate = seconds > 0 ? static_cast<double>(d.bytes) / seconds : 0;
  return fmt::format(fmt::runtime(kRow), name, rate_text(rate), format_count(requests) + "/s",
                     latency_text(d.latency.percentile_ns(50)), latency_text(d.latency.percentile_ns(95)),
                     latency_text(d.latency.percentile_ns(99)), latency_text(d.latency.percentile_ns(99.9)),
                     latency_text(d.latency.max_ns()),
                     fmt::format("{:.3f} s/GB", record.result.cpu_seconds_per_gb()));
}

std::string record_rows(const std::string& name, const Record& record) {
  std::string text;
  const bool both = record.result.read.requests > 0 && record.result.write.requests > 0;
  if (record.result.read.requests > 0) {
    text += direction_row(both ? name + ", reads" : name, record.result.read, record);
  }
  if (record.result.write.requests > 0) {
    text += direction_row(both ? name + ", writes" : name, record.result.write, record);
  }
  if (!record.from_cache.empty()) text += fmt::format("    from cache: {}\n", record.from_cache);
  return text;
}

// Rows of one group under a heading for each place.
std::string table(const Report& report, const std::string& group) {
  std::string text, place;
  for (const Record& record : report.records) {
    if (record.group != group) continue;
    if (place_of(record) != place) {
      place = place_of(record);
      text += fmt::format("\n{}: requests of {}, {} in flight a drive{}, {}\n", place,
                          exact_size(record.block_bytes), record.depth * record.jobs,
                          record.jobs > 1 ? fmt::format(" ({} jobs)", record.jobs) : "",
                          record.direct ? "direct I/O" : "through the page cache");
      if (group != "backends") text += fmt::format("by {}\n", record.engine_description);
      text += header_row();
    }
    const std::string rw(bench::read_write_name(record.rw));
    text += record_rows(
        group == "backends" ? fmt::format("{}, {}", rw, bench::engine_name(record.engine)) : rw, record);
  }
  return text;
}

std::string fills(const Report& report) {
  std::string text;
  for (const Record& record : report.records) {
    if (record.group != "fill") continue;
    const bool lmdb = record.engine == bench::Engine::kLmdb;
    text +=
        fmt::format("  {}{}: {} written and synced at {}\n", place_of(record), lmdb ? " by LMDB" : "",
                    format_size(record.result.bytes()), rate_text(record.result.written_bytes_per_second()));
  }
  return text.empty() ? text : "\nNew files\n" + text;
}

std::string sweep(const Report& report) {
  // place and direction -> block size -> depth -> rate
  std::map<std::pair<std::string, std::string>, std::map<uint64_t, std::map<uint32_t, double>>> grids;
  for (const Record& record : report.records) {
    if (record.group != "sweep") continue;
    const double rate = record.result.read_bytes_per_second() + record.result.written_bytes_per_second();
    grids[{place_of(record), std::string(bench::read_write_name(record.rw))}][record.block_bytes]
         [record.depth] = rate;
  }
  std::string text;
  for (const auto& [name, grid] : grids) {
    text += fmt::format("\n{}: {} by size of a request and number in flight\n  {:<10}", name.first,
                        name.second, "");
    for (const auto& [depth, rate] : grid.begin()->second) text += fmt::format("{:>13}", depth);
    text += "\n";
    for (const auto& [block, rates] : grid) {
      text += fmt::format("  {:<10}", exact_size(block));
      for (const auto& [depth, rate] : rates) text += fmt::format("{:>13}", rate_text(rate));
      text += "\n";
    }
  }
  return text;
}

std::string sustained(const Record& record) {
  const bench::JobResult& result = record.result;
  std::string text = fmt::format("\n{}: writes for long, {} in {}, {} on average\n", place_of(record),
                                 format_size(result.write.bytes), format_duration(result.seconds),
                                 rate_text(result.written_bytes_per_second()));
  if (!record.from_cache.empty()) text += fmt::format("  from cache: {}\n", record.from_cache);
  const size_t windows = result.windows.size();
  const size_t step = std::max<size_t>(1, (windows + kSustainedRows - 1) / kSustainedRows);
  std::vector<double> rates;
  for (size_t first = 0; first < windows; first += step) {
    uint64_t bytes = 0;
    const size_t last = std::min(windows, first + step);
    for (size_t i = first; i < last; ++i) bytes += result.windows[i].written_bytes;
    const double begin = static_cast<double>(first) * result.window_seconds;
    const double end = std::min(result.seconds, static_cast<double>(last) * result.window_seconds);
    rates.push_back(end > begin ? static_cast<double>(bytes) / (end - begin) : 0);
  }
  const double most = rates.empty() ? 0 : *std::max_element(rates.begin(), rates.end());
  for (size_t i = 0; i < rates.size(); ++i) {
    const auto bar = static_cast<size_t>(most > 0 ? kBarColumns * rates[i] / most : 0);
    text += fmt::format("  from {:>7}{:>14}  {}\n",
                        fmt::format("{:.1f} s", static_cast<double>(i * step) * result.window_seconds),
                        rate_text(rates[i]), std::string(bar, '#'));
  }
  if (const auto drop = bench::find_rate_drop(result)) {
    text += fmt::format(
        "  The rate fell after {:.1f} s and {}: from {} to {}. The drive's fast cache was full.\n",
        drop->at_seconds, format_size(drop->after_bytes), rate_text(drop->before_bytes_per_second),
        rate_text(drop->after_bytes_per_second));
  } else {
    text += "  No lasting fall of the rate: a fast cache, if there is one, was not left.\n";
  }
  return text;
}

}  // namespace

std::string rate_text(double bytes_per_second) {
  const double rate = bytes_per_second / 1e6;
  return rate < 10    ? fmt::format("{:.2f} MB/s", rate)
         : rate < 100 ? fmt::format("{:.1f} MB/s", rate)
                      : fmt::format("{:.0f} MB/s", rate);
}

std::string latency_text(uint64_t nanoseconds) {
  const auto value = static_cast<double>(nanoseconds);
  if (value < 1e3) return fmt::format("{} ns", nanoseconds);
  const auto [scaled, unit] = value < 1e6   ? std::pair(value / 1e3, "us")
                              : value < 1e9 ? std::pair(value / 1e6, "ms")
                                            : std::pair(value / 1e9, "s");
  return scaled < 10    ? fmt::format("{:.2f} {}", scaled, unit)
         : scaled < 100 ? fmt::format("{:.1f} {}", scaled, unit)
                        : fmt::format("{:.0f} {}", scaled, unit);
}

std::string bench_text(const Report& report) {
  std::string text;
  for (size_t i = 0; i < report.directories.size(); ++i) {
    text += directory_text(report.directories[i], report.findings[i]);
  }
  for (const std::string& note : report.notes) text += fmt::format("Note: {}.\n", note);
  text += fills(report);
  text += table(report, "standard");
  text += table(report, "backends");
  text += sweep(report);
  for (const Record& record : report.records) {
    if (record.group == "sustained") text += sustained(record);
  }
  if (report.stopped) text += "\nStopped before all was measured.\n";
  return text;
}

}  // namespace headrace::tools

#include "storage/bench/report.h"

#include <fmt/format.h>

#include <algorithm>

namespace headrace::bench {
namespace {

constexpr double kDropShare = 0.7;
constexpr size_t kShortestPart = 5;  // windows
// A request of a drive takes some microseconds on the way to it and back alone.
constexpr uint64_t kFastestDriveNanoseconds = 4000;
// Four lanes of PCIe 6.0 carry 30 GB/s.
constexpr double kFastestDriveBytesPerSecond = 40e9;

// Sum of squared distances from the mean of windows [first, last), from sums of the rates and their squares.
double spread(const std::vector<double>& sums, const std::vector<double>& squares, size_t first,
              size_t last) {
  const double sum = sums[last] - sums[first];
  return squares[last] - squares[first] - sum * sum / static_cast<double>(last - first);
}

}  // namespace

std::string_view engine_name(Engine engine) {
  switch (engine) {
    case Engine::kAuto:
      return "auto";
    case Engine::kUring:
      return "io_uring";
    case Engine::kThreads:
      return "threads";
    case Engine::kLmdb:
      return "lmdb";
  }
  return {};
}

std::optional<RateDrop> find_rate_drop(const JobResult& result) {
  if (result.windows.size() < 2 * kShortestPart + 1) return std::nullopt;
  const size_t windows = result.windows.size() - 1;  // the last is cut off
  std::vector<double> sums(windows + 1, 0), squares(windows + 1, 0);
  for (size_t i = 0; i < windows; ++i) {
    const auto bytes = static_cast<double>(result.windows[i].written_bytes);
    sums[i + 1] = sums[i] + bytes;
    squares[i + 1] = squares[i] + bytes * bytes;
  }
  size_t best = 0;
  double least = 0;
  for (size_t at = kShortestPart; at + kShortestPart <= windows; ++at) {
    const double both = spread(sums, squares, 0, at) + spread(sums, squares, at, windows);
    if (best == 0 || both < least) {
      best = at;
      least = both;
    }
  }
  RateDrop drop;
  const double before_seconds = static_cast<double>(best) * result.window_seconds;
  const double after_seconds = static_cast<double>(windows - best) * result.window_seconds;
  drop.at_seconds = before_seconds;
  drop.after_bytes = static_cast<uint64_t>(sums[best]);
  drop.before_bytes_per_second = sums[best] / before_seconds;
  drop.after_bytes_per_second = (sums[windows] - sums[best]) / after_seconds;
  if (drop.after_bytes_per_second >= kDropShare * drop.before_bytes_per_second) return std::nullopt;
  return drop;
}

std::string memory_like(const JobResult& result, uint64_t block_bytes) {
  const double rate = result.read_bytes_per_second() + result.written_bytes_per_second();
  if (rate > kFastestDriveBytesPerSecond) {
    return fmt::format("{:.0f} GB/s is more than a drive's connection carries", rate / 1e9);
  }
  const uint64_t median = result.read.requests > 0 ? result.read.latency.percentile_ns(50)
                                                   : result.write.latency.percentile_ns(50);
  if (result.read.requests + result.write.requests > 0 && median < kFastestDriveNanoseconds) {
    return fmt::format("half of the requests of {} bytes took less than {:.1f} microseconds", block_bytes,
                       static_cast<double>(kFastestDriveNanoseconds) / 1e3);
  }
  return {};
}

}  // namespace headrace::bench

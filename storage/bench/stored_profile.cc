#include "storage/bench/stored_profile.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace headrace::bench {
namespace {

using storage::MeasuredRate;

// What was measured with less says more of requests than of the drive.
constexpr uint64_t kLeastBlockBytes = 64 << 10, kLeastBytesInFlight = 4 << 20;
constexpr uint64_t kLeastBytes = 256 << 20;
constexpr double kLeastSeconds = 1, kLeastSweepSeconds = 0.2;
constexpr double kNoise = 0.05;
constexpr double kOrdinaryBytesInFlight = 16 << 20;

bool says_something(const Record& record, const std::string& directory, bool direct_there) {
  if (record.directories != std::vector{directory}) return false;
  if (direct_there && !record.direct) return false;  // training would not go through the page cache
  if (!record.from_cache.empty() || record.engine == Engine::kLmdb || record.jobs != 1) return false;
  if (record.group == "sweep")
    return record.block_bytes >= kLeastBlockBytes && record.result.seconds >= kLeastSweepSeconds;
  if (record.group != "standard" && record.group != "backends") return false;
  return record.block_bytes >= kLeastBlockBytes && record.block_bytes * record.depth >= kLeastBytesInFlight &&
         (record.result.bytes() >= kLeastBytes || record.result.seconds >= kLeastSeconds);
}

MeasuredRate rate_of(const Record& record) {
  const bool is_read = reads(record.rw);
  const LatencyHistogram& latency = is_read ? record.result.read.latency : record.result.write.latency;
  return {.bytes_per_second =
              is_read ? record.result.read_bytes_per_second() : record.result.written_bytes_per_second(),
          .transfer_bytes = record.block_bytes,
          .depth = record.depth,
          .latency_p50_us = double(latency.percentile_ns(50)) / 1000,
          .latency_p99_us = double(latency.percentile_ns(99)) / 1000};
}

double strangeness(const MeasuredRate& rate) {
  return std::abs(std::log2(double(rate.transfer_bytes) * rate.depth / kOrdinaryBytesInFlight));
}

std::optional<MeasuredRate> best_of(const std::vector<MeasuredRate>& rates) {
  double highest = 0;
  for (const MeasuredRate& rate : rates) highest = std::max(highest, rate.bytes_per_second);
  std::optional<MeasuredRate> best;
  for (const MeasuredRate& rate : rates)
    if (rate.bytes_per_second >= (1 - kNoise) * highest && (!best || strangeness(rate) < strangeness(*best)))
      best = rate;
  return best;
}

}  // namespace

std::optional<storage::DriveProfile> profile_of(const Report& report, const std::string& directory,
                                                std::string& why_not) {
  std::vector<MeasuredRate> read_rates, write_rates;
  storage::DriveProfile profile = storage::describe_place(directory);
  bool from_cache = false;
  const bool direct_there =
      std::any_of(report.directories.begin(), report.directories.end(),
                  [&](const DirectoryFacts& facts) { return facts.path == directory && facts.direct; });
  for (const Record& record : report.records) {
    from_cache = from_cache || !record.from_cache.empty();
    if (!says_something(record, directory, direct_there)) continue;
    profile.io = record.engine_description;
    profile.direct = record.direct;
    if (reads(record.rw) != writes(record.rw)) {
      (reads(record.rw) ? read_rates : write_rates).push_back(rate_of(record));
    } else if (record.mix_read_percent > 0 && record.mix_read_percent < 100) {
      profile.mix = {.read_bytes_per_second = record.result.read_bytes_per_second(),
                     .written_bytes_per_second = record.result.written_bytes_per_second(),
                     .transfer_bytes = record.block_bytes,
                     .depth = record.depth};
    }
  }
  const auto read = best_of(read_rates), write = best_of(write_rates);
  if (!read || !write) {
    why_not = from_cache ? "the results come from memory"
                         : "reads and writes of at least 256 MiB or a second, in large requests, were not "
                           "both measured";
    return std::nullopt;
  }
  profile.read = *read;
  profile.write = *write;
  return profile;
}

}  // namespace headrace::bench

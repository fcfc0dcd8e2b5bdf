#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "tools/bench_report.h"

namespace headrace::tools {
namespace {

using bench::DirectionResult;
using bench::Record;
using nlohmann::ordered_json;

constexpr std::array<double, 13> kPercentiles{1, 5, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99};

ordered_json latency_json(const bench::LatencyHistogram& latency) {
  ordered_json percentiles = ordered_json::object();
  for (const double percent : kPercentiles) {
    percentiles[fmt::format("{:.6f}", percent)] = latency.percentile_ns(percent);
  }
  return {{"min", latency.min_ns()},       {"max", latency.max_ns()}, {"mean", latency.mean_ns()},
          {"stddev", latency.stddev_ns()}, {"N", latency.count()},    {"percentile", percentiles}};
}

// fio's units: bytes, KiB/s, milliseconds.
ordered_json direction_json(const DirectionResult& direction, double seconds) {
  const auto per_second = [&](uint64_t amount) {
    return seconds > 0 ? static_cast<double>(amount) / seconds : 0.0;
  };
  const bool any = direction.requests > 0;
  const ordered_json latency = latency_json(direction.latency);
  return {{"io_bytes", direction.bytes},
          {"io_kbytes", direction.bytes / 1024},
          {"bw_bytes", static_cast<uint64_t>(per_second(direction.bytes))},
          {"bw", static_cast<uint64_t>(per_second(direction.bytes) / 1024)},
          {"iops", per_second(direction.requests)},
          {"runtime", any ? static_cast<uint64_t>(seconds * 1e3) : 0},
          {"total_ios", direction.requests},
          {"short_ios", 0},
          {"drop_ios", 0},
          {"clat_ns", latency},
          {"lat_ns", latency}};
}

ordered_json job_options(const Record& record) {
  ordered_json options{
      {"rw", bench::read_write_name(record.rw)},       {"bs", std::to_string(record.block_bytes)},
      {"iodepth", std::to_string(record.depth)},       {"numjobs", std::to_string(record.jobs)},
      {"size", std::to_string(record.size_bytes)},     {"direct", record.direct ? "1" : "0"},
      {"ioengine", bench::engine_name(record.engine)}, {"end_fsync", record.end_fsync ? "1" : "0"}};
  if (record.runtime_seconds > 0) options["runtime"] = fmt::format("{}", record.runtime_seconds);
  if (record.time_based) options["time_based"] = "1";
  if (bench::reads(record.rw) && bench::writes(record.rw)) {
    options["rwmixread"] = std::to_string(record.mix_read_percent);
  }
  return options;
}

// What fio has no name for.
ordered_json own_json(const Record& record) {
  const bench::JobResult& result = record.result;
  ordered_json own{{"group", record.group},
                   {"directories", record.directories},
                   {"engine", record.engine_description},
                   {"cpu_seconds_per_gb", result.cpu_seconds_per_gb()},
                   {"io_thread_cpu_seconds", result.io_thread_cpu_seconds},
                   {"stopped", result.stopped},
                   {"from_cache", record.from_cache},
                   {"window_seconds", result.window_seconds}};
  ordered_json reads = ordered_json::array(), writes = ordered_json::array(), latency = ordered_json::array();
  for (const bench::Window& window : result.windows) {
    reads.push_back(window.read_bytes);
    writes.push_back(window.written_bytes);
    latency.push_back(window.max_latency_ns);
  }
  own["window_read_bytes"] = std::move(reads);
  own["window_written_bytes"] = std::move(writes);
  own["window_max_latency_ns"] = std::move(latency);
  if (record.group == "sustained") {
    if (const auto drop = bench::find_rate_drop(result)) {
      own["rate_drop"] = {{"at_seconds", drop->at_seconds},
                          {"after_bytes", drop->after_bytes},
                          {"before_bw_bytes", drop->before_bytes_per_second},
                          {"after_bw_bytes", drop->after_bytes_per_second}};
    }
  }
  return own;
}

ordered_json job_json(const Record& record) {
  const bench::JobResult& result = record.result;
  const double seconds = result.seconds;
  std::string name = fmt::format("{}-{}", record.group, bench::read_write_name(record.rw));
  if (record.group == "backends") name += fmt::format("-{}", bench::engine_name(record.engine));
  if (record.group == "sweep") name += fmt::format("-{}-{}", record.block_bytes, record.depth);
  if (record.directories.size() > 1) name += "-striped";
  return {{"jobname", name},
          {"error", 0},
          {"job options", job_options(record)},
          {"read", direction_json(result.read, seconds)},
          {"write", direction_json(result.write, seconds)},
          {"job_runtime", static_cast<uint64_t>(seconds * 1e3)},
          {"usr_cpu", seconds > 0 ? 100 * result.user_cpu_seconds / seconds : 0},
          {"sys_cpu", seconds > 0 ? 100 * result.system_cpu_seconds / seconds : 0},
          {"headrace", own_json(record)}};
}

ordered_json directory_json(const bench::DirectoryFacts& d, const std::vector<bench::Finding>& findings) {
  static constexpr std::array<const char*, 3> kNames{"good", "limited", "unfit"};
  ordered_json json{{"path", d.path},
                    {"file_system", d.file_system},
                    {"source", d.source},
                    {"mount_point", d.mount_point},
                    {"mount_options", d.mount_options},
                    {"model", d.model},
                    {"free_bytes", d.free_bytes},
                    {"total_bytes", d.total_bytes},
                    {"in_memory", d.in_memory},
                    {"direct", d.direct},
                    {"why_not_direct", d.why_not_direct},
                    {"dio_mem_align", d.memory_alignment},
                    {"dio_offset_align", d.offset_alignment},
                    {"fitness", kNames[static_cast<size_t>(bench::worst(findings))]}};
  json["findings"] = ordered_json::array();
  for (const bench::Finding& finding : findings) {
    json["findings"].push_back(
        {{"fitness", kNames[static_cast<size_t>(finding.fitness)]}, {"text", finding.text}});
  }
  return json;
}

}  // namespace

std::string bench_json(const bench::Report& report) {
  ordered_json json;
  json["headrace bench"] = 1;  // version of this format
  json["timestamp"] = report.unix_seconds;
  json["stopped"] = report.stopped;
  json["system"] = {{"kernel", report.system.kernel},
                    {"processor", report.system.processor},
                    {"processors", report.system.processors},
                    {"io_uring", report.system.io_uring},
                    {"why_no_io_uring", report.system.why_no_io_uring}};
  json["system"]["memlock_bytes"] = report.system.memlock_bytes == ~uint64_t{0}
                                        ? ordered_json(nullptr)
                                        : ordered_json(report.system.memlock_bytes);
  json["directories"] = ordered_json::array();
  for (size_t i = 0; i < report.directories.size(); ++i) {
    json["directories"].push_back(directory_json(report.directories[i], report.findings[i]));
  }
  json["notes"] = report.notes;
  json["jobs"] = ordered_json::array();
  for (const Record& record : report.records) json["jobs"].push_back(job_json(record));
  return json.dump(1, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace headrace::tools

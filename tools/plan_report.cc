#include "tools/plan_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "storage/text.h"

namespace headrace::tools {
namespace {

using Json = nlohmann::ordered_json;
using train::Bottleneck;
using train::MemoryPart;
using train::PlannedDrive;
using train::TrainingPlan;

std::string line(const char* name, const std::string& value) {
  return fmt::format("  {:<22}{}\n", name, value);
}

std::string seconds_text(double seconds) {
  return seconds < 0.1 ? fmt::format("{:.3g} ms", 1000 * seconds) : format_duration(seconds);
}

std::string decimal_bytes(double bytes) { return format_count(bytes) + "B"; }  // as drives are sold

std::string parts_text(const std::vector<MemoryPart>& parts) {
  std::string text;
  for (const MemoryPart& part : parts)
    if (part.bytes > 0)
      text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", part.name, format_size(part.bytes));
  return text;
}

std::string memory_text(const TrainingPlan& plan) {
  std::string text = line(
      "memory budget",
      fmt::format("{}, {:.0f}% of the state; the least is {}", format_size(plan.memory_bytes),
                  100 * double(plan.memory_bytes) / double(plan.state_bytes), format_size(plan.least.bytes)));
  text += line("  used for", parts_text(plan.preflight.memory));
  return text + line("  at a time at least", parts_text(plan.preflight.largest_operation));
}

std::string disk_text(const TrainingPlan& plan) {
  std::string text;
  for (const PlannedDrive& drive : plan.drives) {
    const bool enough = drive.needed_bytes <= drive.free_bytes;
    text += line("disk space", fmt::format("{} in {}, of {} free{}", format_size(drive.needed_bytes),
                                           printable(drive.directory), format_size(drive.free_bytes),
                                           enough ? "" : ": TOO LITTLE"));
  }
  return text;
}

std::string rates_text(const TrainingPlan& plan) {
  std::string text;
  for (const PlannedDrive& drive : plan.drives) {
    if (drive.share == 0) continue;
    const std::string where = printable(drive.directory);
    if (!drive.profile) {
      text +=
          line("drive", fmt::format("of {}: rates not known; headrace bench {} would tell", where, where));
      continue;
    }
    const storage::DriveProfile& profile = *drive.profile;
    text += line("drive",
                 fmt::format("of {}: reads {}/s, writes {}/s{} (measured {})", where,
                             decimal_bytes(profile.read.bytes_per_second),
                             decimal_bytes(profile.write.bytes_per_second),
                             !profile.mix ? ""
                                          : fmt::format(", together {}/s and {}/s",
                                                        decimal_bytes(profile.mix->read_bytes_per_second),
                                                        decimal_bytes(profile.mix->written_bytes_per_second)),
                             profile.date));
  }
  return text;
}

const char* bottleneck_name(Bottleneck bottleneck) {
  switch (bottleneck) {
    case Bottleneck::kCompute:
      return "compute";
    case Bottleneck::kReading:
      return "reading";
    case Bottleneck::kWriting:
      return "writing";
    case Bottleneck::kUnknown:
      break;
  }
  return "unknown";
}

std::string bottleneck_text(const TrainingPlan& plan) {
  switch (plan.bottleneck) {
    case Bottleneck::kCompute:
      return "computing; the disk is hidden behind it";
    case Bottleneck::kReading:
      return "the disk, most of all reading";
    case Bottleneck::kWriting:
      return "the disk, most of all writing";
    case Bottleneck::kUnknown:
      break;
  }
  return "";
}

std::string time_text(const TrainingPlan& plan) {
  std::string text =
      line("computing", fmt::format("{}FLOP a step: {} at {}FLOP/s (its products alone, measured now)",
                                    format_count(plan.preflight.flops), seconds_text(plan.compute_seconds),
                                    format_count(plan.flops_per_second)));
  text += rates_text(plan);
  if (!plan.seconds) return text;
  text += line("moving", seconds_text(*plan.disk_seconds) + " a step");
  text += line("a step", fmt::format("at least {}: {} {} a second at most", seconds_text(*plan.seconds),
                                     format_count(double(plan.tokens) / *plan.seconds), plan.rows));
  text += line("bottleneck", bottleneck_text(plan));
  return text +
         line("hiding the disk",
              plan.hiding_tokens
                  ? fmt::format("takes {} {} a step ({} now)", *plan.hiding_tokens, plan.rows, plan.tokens)
                  : fmt::format("more {} a step do not, within this budget", plan.rows));
}

std::string endurance_text(const PlanReport& report) {
  if (!report.endurance_bytes) return "";
  const auto steps = endured_steps(report.plan, *report.endurance_bytes);
  if (!steps) return line("endurance", "a step writes nothing");
  std::string text =
      fmt::format("{} a drive allow {} steps", decimal_bytes(double(*report.endurance_bytes)), *steps);
  if (report.steps > 0)
    text += fmt::format("; {} steps take {:.2g}% of it", report.steps,
                        100 * double(report.steps) / std::max(double(*steps), 1.0));
  return line("endurance", text);
}

Json parts_json(const std::vector<MemoryPart>& parts) {
  Json json = Json::array();
  for (const MemoryPart& part : parts) json.push_back({{"name", part.name}, {"bytes", part.bytes}});
  return json;
}

Json drives_json(const TrainingPlan& plan) {
  Json json = Json::array();
  for (const PlannedDrive& drive : plan.drives) {
    Json one{{"directory", drive.directory},
             {"needed_bytes", drive.needed_bytes},
             {"free_bytes", drive.free_bytes},
             {"share", drive.share},
             {"profile", drive.profile ? Json(drive.profile_path) : Json()}};
    if (drive.profile) {
      one["read_bytes_per_second"] = drive.profile->read.bytes_per_second;
      one["written_bytes_per_second"] = drive.profile->write.bytes_per_second;
    }
    json.push_back(std::move(one));
  }
  return json;
}

template <typename Value>
Json or_null(const std::optional<Value>& value) {
  return value ? Json(*value) : Json();
}

Json step_json(const TrainingPlan& plan) {
  const stream::PlannedBytes& bytes = plan.steps.mean;
  Json first = Json::array();
  for (const stream::PlannedBytes& step : plan.steps.first)
    first.push_back({{"read_bytes", step.read()}, {"written_bytes", step.written()}});
  return {{"tokens", plan.tokens},
          {"drawn_tokens", plan.drawn_tokens},
          {"flops", plan.preflight.flops},
          {"read_bytes", bytes.read()},
          {"written_bytes", bytes.written()},
          {"spilled_bytes", bytes.spill_written},
          {"first_steps", first},
          {"compute_seconds", plan.compute_seconds},
          {"disk_seconds", or_null(plan.disk_seconds)},
          {"seconds", or_null(plan.seconds)},
          {"bottleneck", bottleneck_name(plan.bottleneck)},
          {"hiding_tokens", or_null(plan.hiding_tokens)}};
}

}  // namespace

std::optional<uint64_t> endured_steps(const TrainingPlan& plan, uint64_t endurance_bytes) {
  double most = 0;  // written to a drive by a step
  for (const PlannedDrive& drive : plan.drives)
    most = std::max(most, drive.share * double(plan.steps.mean.written()));
  if (most <= 0) return std::nullopt;
  return uint64_t(double(endurance_bytes) / most);
}

std::string plan_text(const PlanReport& report) {
  const TrainingPlan& plan = report.plan;
  const stream::PlannedBytes& bytes = plan.steps.mean;
  std::string text = plan.exists
                         ? fmt::format("{} goes on after step {}.\n", printable(report.run_dir), plan.step)
                         : "Nothing was written; this is what the training would take.\n";
  text += line("model", fmt::format("{}, {} parameters", printable(report.model),
                                    format_count(double(plan.parameters))));
  text += line("state", fmt::format("{} of parameters and optimizer state, {:.2f} bytes a parameter",
                                    format_size(plan.state_bytes),
                                    double(plan.state_bytes) / double(plan.parameters)));
  text += memory_text(plan) + disk_text(plan);
  text += line("a step has", fmt::format("{} {}{}; {}", plan.tokens, plan.rows,
                                         plan.drawn_tokens ? ", evenly drawn as there are no data" : "",
                                         plan.preflight.policy.description()));
  text += line("read from disk", fmt::format("{} a step", format_size(bytes.read())));
  text += line("written to disk", fmt::format("{} a step, {} of it spilled", format_size(bytes.written()),
                                              format_size(bytes.spill_written)));
  return text + time_text(plan) + endurance_text(report);
}

std::string plan_json(const PlanReport& report) {
  const TrainingPlan& plan = report.plan;
  Json json;
  json["run"] = report.run_dir;
  json["exists"] = plan.exists;
  json["committed_step"] = plan.step;
  json["model"] = report.model;
  json["parameters"] = plan.parameters;
  json["state_bytes"] = plan.state_bytes;
  json["memory"] = {{"budget_bytes", plan.memory_bytes},
                    {"least_bytes", plan.least.bytes},
                    {"parts", parts_json(plan.preflight.memory)},
                    {"largest_operation", parts_json(plan.preflight.largest_operation)},
                    {"least_parts", parts_json(plan.least.parts)}};
  json["policy"] = plan.preflight.policy.description();
  json["drives"] = drives_json(plan);
  json["flops_per_second"] = plan.flops_per_second;
  json["step"] = step_json(plan);
  if (report.endurance_bytes)
    json["endurance"] = {{"bytes", *report.endurance_bytes},
                         {"steps", or_null(endured_steps(plan, *report.endurance_bytes))}};
  json["warnings"] = plan.warnings;
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace headrace::tools

// A training plan as text for people and as JSON for scripts. Pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "engine/train/training_plan.h"

namespace headrace::tools {

struct PlanReport {
  const train::TrainingPlan& plan;
  std::string run_dir, model;
  uint64_t steps = 0;                       // of the training; 0: not said
  std::optional<uint64_t> endurance_bytes;  // that each drive may be written, as rated
};

// Steps until the first drive has been written so much; nothing where a step writes nothing.
std::optional<uint64_t> endured_steps(const train::TrainingPlan& plan, uint64_t endurance_bytes);

std::string plan_text(const PlanReport& report);
std::string plan_json(const PlanReport& report);

}  // namespace headrace::tools

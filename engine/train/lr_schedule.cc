#include "engine/train/lr_schedule.h"

#include <cmath>
#include <numbers>

namespace headrace::train {

LrScheduleOptions lr_schedule_options(const RunOptions& options) {
  return {options.schedule, options.lr, options.min_lr, options.warmup, options.schedule_steps};
}

double learning_rate(const LrScheduleOptions& options, uint64_t step) {
  HEADRACE_CHECK(step >= 1, "steps are counted from 1");
  if (step <= options.warmup) {
    return options.lr * static_cast<double>(step) / static_cast<double>(options.warmup);
  }
  if (options.kind == LrSchedule::kConstant) return options.lr;
  if (step >= options.end_step) return options.min_lr;
  const double progress =
      static_cast<double>(step - options.warmup) / static_cast<double>(options.end_step - options.warmup);
  const double span = options.lr - options.min_lr;
  if (options.kind == LrSchedule::kLinear) return options.lr - span * progress;
  return options.min_lr + span * 0.5 * (1.0 + std::cos(std::numbers::pi * progress));
}

}  // namespace headrace::train

// Learning-rate schedules: linear warm-up, then a decay. Pure arithmetic.
//
// With w warm-up steps and the decay ending at step e, the rate of step s, counted from 1:
//
//   s <= w            lr * s / w
//   s <  e            constant  lr
//                     linear    lr + (min_lr - lr) * p                       p = (s - w) / (e - w)
//                     cosine    min_lr + (lr - min_lr) * (1 + cos(pi p)) / 2
//   s >= e            min_lr (constant: lr)
//
// The cosine is that of Loshchilov and Hutter 2017 (SGDR) without restarts, as GPT-2 and GPT-3 style training
// uses it (Brown et al. 2020, appendix B).
#pragma once

#include <cstdint>

#include "engine/train/options.h"

namespace headrace::train {

struct LrScheduleOptions {
  LrSchedule kind = LrSchedule::kCosine;
  double lr = 0, min_lr = 0;
  uint64_t warmup = 0;    // steps
  uint64_t end_step = 0;  // the first step at min_lr
};

LrScheduleOptions lr_schedule_options(const RunOptions& options);

// The rate of `step`, counted from 1. Depends on nothing else, so a resumed run goes on with the same rates.
double learning_rate(const LrScheduleOptions& options, uint64_t step);

}  // namespace headrace::train

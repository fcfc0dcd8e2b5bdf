#include "engine/train/lr_schedule.h"

#include <gtest/gtest.h>

#include <cmath>

namespace headrace::train {
namespace {

LrScheduleOptions schedule(LrSchedule kind) { return {kind, 1.0, 0.1, 10, 110}; }

TEST(LrSchedule, WarmsUpLinearlyToTheFullRate) {
  for (const auto kind : {LrSchedule::kCosine, LrSchedule::kLinear, LrSchedule::kConstant}) {
    EXPECT_DOUBLE_EQ(learning_rate(schedule(kind), 1), 0.1);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(kind), 5), 0.5);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(kind), 10), 1.0);
  }
}

TEST(LrSchedule, DecaysToTheLeastRateAtTheEnd) {
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedule::kLinear), 60), 0.55);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedule::kCosine), 60), 0.55);
  EXPECT_NEAR(learning_rate(schedule(LrSchedule::kCosine), 35), 0.1 + 0.45 * (1 + std::sqrt(0.5)), 1e-15);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(LrSchedule::kConstant), 60), 1.0);
  for (const auto kind : {LrSchedule::kCosine, LrSchedule::kLinear}) {
    EXPECT_DOUBLE_EQ(learning_rate(schedule(kind), 110), 0.1);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(kind), 1'000'000), 0.1);
  }
}

TEST(LrSchedule, NeverRisesAfterTheWarmUp) {
  for (const auto kind : {LrSchedule::kCosine, LrSchedule::kLinear}) {
    for (uint64_t step = 10; step < 120; ++step) {
      EXPECT_GE(learning_rate(schedule(kind), step), learning_rate(schedule(kind), step + 1)) << step;
    }
  }
}

TEST(LrSchedule, TakesNoWarmUpAndAWarmUpLongerThanTheRun) {
  EXPECT_NEAR(learning_rate({LrSchedule::kLinear, 1.0, 0.0, 0, 4}, 1), 0.75, 1e-15);
  EXPECT_DOUBLE_EQ(learning_rate({LrSchedule::kCosine, 1.0, 0.0, 10, 4}, 8), 0.8);
  EXPECT_DOUBLE_EQ(learning_rate({LrSchedule::kCosine, 1.0, 0.0, 0, 1}, 1), 0.0);
}

}  // namespace
}  // namespace headrace::train

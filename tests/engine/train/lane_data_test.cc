#include "engine/train/lane_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::train {
namespace {

constexpr uint64_t kSeq = 4, kLanes = 3, kSeed = 5;

// A text whose every four bytes tell where they are.
class LaneDataTest : public ::testing::Test {
 protected:
  LaneData data(uint64_t bytes, uint64_t seed = kSeed) const {
    std::string text(bytes, ' ');
    for (uint64_t i = 0; i < bytes; i++) text[i] = char(i % kSeq == 0 ? i / kSeq % 251 : i % kSeq);
    testing::write_file(path_, text);
    return LaneData({.path = path_, .seq = kSeq, .batch = kLanes, .seed = seed});
  }
  // The windows that the step before `step` steps reads, by lane.
  static std::vector<uint64_t> windows_of(const LaneData& lanes, uint64_t step, bool* starts = nullptr) {
    BatchData batch;
    lanes.fetch(step, batch);
    if (starts != nullptr) *starts = batch.starts_lanes;
    EXPECT_EQ(batch.inputs.size(), kLanes * kSeq);
    std::vector<uint64_t> windows;
    for (uint64_t lane = 0; lane < kLanes; lane++) {
      windows.push_back(uint64_t(batch.inputs[lane * kSeq]));
      for (uint64_t i = 1; i < kSeq; i++)
        EXPECT_EQ(batch.inputs[lane * kSeq + i], batch.targets[lane * kSeq + i - 1]);
    }
    return windows;
  }

  testing::TemporaryDirectory directory_;
  std::string path_ = directory_ / "text";
};

TEST_F(LaneDataTest, GoesOnInEachLaneWhereTheStepBeforeEnded) {
  const LaneData lanes = data(30 * kSeq + 1);  // 10 windows a lane
  int starts_seen = 0;
  for (uint64_t step = 1; step < 40; step++) {
    bool starts = false;
    const std::vector<uint64_t> before = windows_of(lanes, step - 1), now = windows_of(lanes, step, &starts);
    starts_seen += starts;
    for (uint64_t lane = 0; lane < kLanes; lane++) {
      if (starts) continue;
      EXPECT_EQ(now[lane], before[lane] + 1) << "step " << step;
    }
    if (step % lanes.lane_windows() == 0) {
      EXPECT_TRUE(starts) << "an epoch begins at step " << step;
    }
  }
  EXPECT_GE(starts_seen, 3);
  EXPECT_LE(starts_seen, 3 + 4) << "but for epochs, only where lanes end";
}

TEST_F(LaneDataTest, TakesEachWindowOfTheLanesOnceAnEpoch) {
  for (const uint64_t windows : {30, 31, 32}) {
    const LaneData lanes = data(windows * kSeq + 1);
    ASSERT_EQ(lanes.lane_windows(), 10U);
    std::set<uint64_t> ever;
    for (uint64_t epoch = 0; epoch < 8; epoch++) {
      std::set<uint64_t> taken;
      for (uint64_t step = 0; step < 10; step++)
        for (const uint64_t window : windows_of(lanes, epoch * 10 + step)) taken.insert(window);
      EXPECT_EQ(taken.size(), 30U) << "epoch " << epoch;
      EXPECT_EQ(*taken.rbegin() - *taken.begin(), 29U) << "without a gap";
      ever.insert(taken.begin(), taken.end());
    }
    EXPECT_EQ(ever.size(), windows) << "what an epoch leaves out another one takes";
  }
}

TEST_F(LaneDataTest, BeginsEpochsAtAPlaceThatTheSeedGives) {
  std::set<uint64_t> firsts, of_seeds;
  for (uint64_t epoch = 0; epoch < 8; epoch++) firsts.insert(windows_of(data(30 * kSeq + 1), epoch * 10)[0]);
  for (uint64_t seed = 0; seed < 8; seed++) of_seeds.insert(windows_of(data(30 * kSeq + 1, seed), 0)[0]);
  EXPECT_GT(firsts.size(), 2U);
  EXPECT_GT(of_seeds.size(), 2U);
}

TEST_F(LaneDataTest, FindsAStepHoweverFarItIsAndAfterAResume) {
  const LaneData straight = data(32 * kSeq + 1);
  std::vector<std::vector<uint64_t>> all;
  for (uint64_t step = 0; step < 27; step++) all.push_back(windows_of(straight, step));
  const LaneData resumed = data(32 * kSeq + 1);
  for (const uint64_t step : {26, 13, 7}) EXPECT_EQ(windows_of(resumed, step), all[step]) << step;
  const uint64_t far = (uint64_t{1} << 50) * 10;
  EXPECT_EQ(windows_of(resumed, far), windows_of(straight, far));
}

TEST_F(LaneDataTest, EvaluatesAllWindowsInOrder) {
  const LaneData lanes = data(31 * kSeq + 1);
  ASSERT_EQ(lanes.evaluation_batches(), 11U);
  uint64_t window = 0;
  for (uint64_t i = 0; i < 11; i++) {
    BatchData batch;
    lanes.fetch_evaluation(i, batch);
    for (uint64_t s = 0; s < batch.inputs.size() / kSeq; s++)
      EXPECT_EQ(uint64_t(batch.inputs[s * kSeq]), window++);
  }
  EXPECT_EQ(window, 31U);
}

TEST_F(LaneDataTest, RefusesATextWithLessThanAWindowALane) {
  try {
    data(2 * kSeq + 3);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("11 bytes make 2 sequences of 4 tokens"));
    EXPECT_THAT(error.advice(), ::testing::HasSubstr("--batch"));
  }
  EXPECT_EQ(data(3 * kSeq + 1).lane_windows(), 1U);
}

}  // namespace
}  // namespace headrace::train

#include "engine/train/training_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/train/text_data.h"

namespace headrace::train {
namespace {

storage::DriveProfile drive(double read, double write) {
  storage::DriveProfile profile;
  profile.read.bytes_per_second = read;
  profile.write.bytes_per_second = write;
  return profile;
}

TEST(TransferSeconds, AddReadingAndWritingWhereOnlyEachAloneIsKnown) {
  EXPECT_DOUBLE_EQ(transfer_seconds(drive(2e9, 1e9), 4e9, 3e9), 2 + 3);
}

TEST(TransferSeconds, CountWhatRunsTogetherAndThenTheRest) {
  storage::DriveProfile profile = drive(2e9, 1e9);
  profile.mix = {.read_bytes_per_second = 1e9, .written_bytes_per_second = 0.5e9};
  // Two seconds together read 2 GB and write 1 GB; the other 3 GB are read alone.
  EXPECT_DOUBLE_EQ(transfer_seconds(profile, 5e9, 1e9), 2 + 1.5);
  EXPECT_DOUBLE_EQ(transfer_seconds(profile, 1e9, 2.5e9), 1 + 2);
  EXPECT_DOUBLE_EQ(transfer_seconds(profile, 0, 1e9), 1);
}

TEST(DrawnTokens, AreEvenAndBelowTheVocabulary) {
  for (const uint64_t vocabulary : {100, 256, 50257}) {
    const BatchData batch = draw_tokens(7, 16, 1024, vocabulary);
    const uint64_t kinds = std::min<uint64_t>(vocabulary, 256);
    ASSERT_EQ(batch.inputs.size(), 16u * 1024);
    ASSERT_EQ(batch.targets.size(), batch.inputs.size());
    std::map<int32_t, int> counts;
    for (const int32_t token : batch.inputs) counts[token]++;
    EXPECT_EQ(counts.size(), kinds);
    EXPECT_GE(counts.begin()->first, 0);
    EXPECT_LT(counts.rbegin()->first, int32_t(kinds));
    const double expected = 16.0 * 1024 / double(kinds);
    for (const auto& [token, count] : counts) EXPECT_NEAR(count, expected, 6 * std::sqrt(expected)) << token;
  }
  EXPECT_EQ(draw_tokens(7, 2, 32, 256).inputs, draw_tokens(7, 2, 32, 256).inputs);
  EXPECT_NE(draw_tokens(7, 2, 32, 256).inputs, draw_tokens(8, 2, 32, 256).inputs);
}

TEST(ExpectedStepSeconds, AreTheLongerAndATenthOfTheShorter) {
  EXPECT_DOUBLE_EQ(expected_step_seconds(4, 2), 4.2);
  EXPECT_DOUBLE_EQ(expected_step_seconds(1, 10), 10.1);
}

}  // namespace
}  // namespace headrace::train

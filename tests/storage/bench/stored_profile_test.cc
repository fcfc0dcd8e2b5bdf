#include "storage/bench/stored_profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_directory.h"

namespace headrace::bench {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kMiB = 1 << 20;

class StoredProfileTest : public ::testing::Test {
 protected:
  // A second's work at `rate` bytes a second in each direction that `rw` has.
  Record record(ReadWrite rw, uint64_t rate, uint64_t block_bytes = kMiB, uint32_t depth = 16) const {
    Record record;
    record.group = "standard";
    record.directories = {directory_.path()};
    record.rw = rw;
    record.block_bytes = block_bytes;
    record.depth = depth;
    record.engine_description = "io_uring, registered buffers";
    record.direct = true;
    record.result.seconds = 1;
    for (DirectionResult* direction : {&record.result.read, &record.result.write}) {
      if (direction == &record.result.read ? !reads(rw) : !writes(rw)) continue;
      direction->bytes = rate;
      direction->latency.add(500000);
    }
    return record;
  }
  std::optional<storage::DriveProfile> stored(std::vector<Record> records) {
    Report report;
    report.records = std::move(records);
    report.directories.push_back({});
    report.directories.back().path = directory_.path();
    report.directories.back().direct = true;
    why_not_.clear();
    return profile_of(report, directory_.path(), why_not_);
  }

  testing::TemporaryDirectory directory_;
  std::string why_not_;
};

TEST_F(StoredProfileTest, HasTheRatesAndTheirRequests) {
  const auto profile = stored({record(ReadWrite::kRead, 3000 * kMiB), record(ReadWrite::kWrite, 1000 * kMiB),
                               record(ReadWrite::kMixed, 800 * kMiB)});
  ASSERT_TRUE(profile) << why_not_;
  EXPECT_EQ(profile->read.bytes_per_second, 3000.0 * kMiB);
  EXPECT_EQ(profile->write.bytes_per_second, 1000.0 * kMiB);
  EXPECT_EQ(profile->mix->read_bytes_per_second, 800.0 * kMiB);
  EXPECT_EQ(profile->read.transfer_bytes, kMiB);
  EXPECT_EQ(profile->read.depth, 16u);
  EXPECT_NEAR(profile->write.latency_p50_us, 500, 5);
  EXPECT_TRUE(profile->direct);
}

TEST_F(StoredProfileTest, TakesTheBestOfASweepAndTheMostOrdinaryOfEquals) {
  std::vector<Record> sweep;
  for (const auto& [rate, block, depth] :
       std::vector<std::tuple<uint64_t, uint64_t, uint32_t>>{{500, 65536, 4},
                                                             {1000, 262144, 16},
                                                             {2000, 4 * kMiB, 64},
                                                             {1950, kMiB, 16},
                                                             {1960, 262144, 256}}) {
    sweep.push_back(record(ReadWrite::kRandomRead, rate * kMiB, block, depth));
    sweep.back().group = "sweep";
    sweep.back().result.seconds = 0.4;
  }
  sweep.push_back(record(ReadWrite::kWrite, 900 * kMiB));
  const auto profile = stored(sweep);
  ASSERT_TRUE(profile) << why_not_;
  EXPECT_EQ(profile->read.transfer_bytes, kMiB);
  EXPECT_EQ(profile->read.depth, 16u);
}

TEST_F(StoredProfileTest, IsNotMadeOfWhatSaysNothingOfTheDrive) {
  const Record read = record(ReadWrite::kRead, 3000 * kMiB);
  EXPECT_FALSE(stored({read}));
  EXPECT_THAT(why_not_, HasSubstr("were not both measured"));
  Record small = record(ReadWrite::kWrite, 1000 * kMiB, 4096, 1);
  EXPECT_FALSE(stored({read, small}));
  small = record(ReadWrite::kWrite, 1000 * kMiB, kMiB, 1);
  EXPECT_FALSE(stored({read, small}));
  Record brief = record(ReadWrite::kWrite, 8 * kMiB);
  brief.result.seconds = 0.01;
  EXPECT_FALSE(stored({read, brief}));
  Record other = record(ReadWrite::kWrite, 1000 * kMiB);
  other.directories = {directory_.path(), "/elsewhere"};
  EXPECT_FALSE(stored({read, other}));
  Record buffered = record(ReadWrite::kWrite, 1000 * kMiB);
  buffered.direct = false;
  EXPECT_FALSE(stored({read, buffered}));
  Record lmdb = record(ReadWrite::kWrite, 1000 * kMiB);
  lmdb.engine = Engine::kLmdb;
  EXPECT_FALSE(stored({read, lmdb}));
  Record memory = record(ReadWrite::kWrite, 1000 * kMiB);
  memory.from_cache = "no drive is so fast";
  EXPECT_FALSE(stored({read, memory}));
  EXPECT_EQ(why_not_, "the results come from memory");
}

}  // namespace
}  // namespace headrace::bench

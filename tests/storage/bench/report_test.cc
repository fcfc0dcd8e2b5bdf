#include "storage/bench/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "storage/aligned_memory.h"
#include "storage/bench/scratch_file.h"
#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::bench {
namespace {

using ::testing::HasSubstr;

JobResult writes_of(const std::vector<uint64_t>& window_bytes) {
  JobResult result;
  result.window_seconds = 0.5;
  for (const uint64_t bytes : window_bytes) result.windows.push_back({0, bytes, 0});
  return result;
}

TEST(RateDrop, IsFoundWhereTheRateFallsForGood) {
  std::vector<uint64_t> rates(40, 1000);
  rates.insert(rates.end(), 60, 300);
  for (size_t i = 0; i < rates.size(); ++i) rates[i] += i * 7919 % 90;  // some noise
  const auto drop = find_rate_drop(writes_of(rates));
  ASSERT_TRUE(drop);
  EXPECT_DOUBLE_EQ(drop->at_seconds, 20);
  EXPECT_NEAR(static_cast<double>(drop->after_bytes), 42700, 300);
  EXPECT_NEAR(drop->before_bytes_per_second, 2136, 20);
  EXPECT_NEAR(drop->after_bytes_per_second, 690, 60);
}

TEST(RateDrop, IsNotSeenInNoiseNorInARiseNorInAShortPause) {
  std::vector<uint64_t> noise, rise(30, 500), pause(60, 1000);
  for (uint64_t i = 0; i < 80; ++i) noise.push_back(900 + i * 7919 % 200);
  rise.insert(rise.end(), 30, 1000);
  for (size_t i = 20; i < 23; ++i) pause[i] = 0;
  for (const auto& rates : {noise, rise, pause, std::vector<uint64_t>{1000, 1000, 1, 1}}) {
    EXPECT_FALSE(find_rate_drop(writes_of(rates)));
  }
}

TEST(MemoryLike, ResultsAreThoseThatNoDriveHas) {
  JobResult drive;
  drive.seconds = 1;
  for (int i = 0; i < 1000; ++i) drive.add({storage::IoKind::kRead, 0, 0, 4096}, 9000);
  EXPECT_EQ(memory_like(drive, 4096), "");
  JobResult quick = drive;
  for (int i = 0; i < 2000; ++i) quick.add({storage::IoKind::kRead, 0, 0, 4096}, 2000);
  EXPECT_THAT(memory_like(quick, 4096), HasSubstr("took less than 4.0 microseconds"));
  JobResult fast;
  fast.seconds = 0.001;
  for (int i = 0; i < 100; ++i) fast.add({storage::IoKind::kWrite, 0, 0, 1 << 20}, 100000);
  EXPECT_THAT(memory_like(fast, 1 << 20), HasSubstr("105 GB/s is more than"));
}

TEST(Findings, NameWhatIsWrongWithADirectory) {
  DirectoryFacts good;
  good.file_system = "ext4";
  good.source = "/dev/nvme0n1";
  good.direct = true;
  good.memory_alignment = good.offset_alignment = 512;
  good.free_bytes = good.total_bytes = uint64_t{1} << 40;
  SystemFacts system;
  system.io_uring = true;
  system.memlock_bytes = ~uint64_t{0};
  EXPECT_EQ(worst(findings(good, system, 1 << 20)), Fitness::kGood);

  const auto expect = [&](const DirectoryFacts& facts, const SystemFacts& with, Fitness fitness,
                          const std::string& text) {
    const std::vector<Finding> list = findings(facts, with, 1 << 20);
    EXPECT_EQ(worst(list), fitness) << text;
    size_t found = 0;
    for (const Finding& finding : list) {
      if (finding.fitness == fitness && finding.text.find(text) != std::string::npos) ++found;
    }
    EXPECT_EQ(found, 1u) << text;
  };
  DirectoryFacts facts = good;
  facts.in_memory = true;
  facts.file_system = "tmpfs";
  expect(facts, system, Fitness::kUnfit, "tmpfs keeps files in memory");
  facts = good;
  facts.direct = false;
  facts.why_not_direct = "the file system has none";
  expect(facts, system, Fitness::kLimited, "no direct I/O (the file system has none)");
  facts = good;
  facts.rotational = true;
  expect(facts, system, Fitness::kLimited, "which turns");
  facts = good;
  facts.free_bytes = 1 << 20;
  expect(facts, system, Fitness::kLimited, "1.00 MiB free");
  SystemFacts other = system;
  other.io_uring = false;
  other.why_no_io_uring = "io_uring refused: Operation not permitted";
  expect(good, other, Fitness::kLimited, "Operation not permitted: threads take its place");
  other = system;
  other.memlock_bytes = 65536;
  expect(good, other, Fitness::kLimited, "memlock limit 64.0 KiB, less than the 1.00 MiB");
}

TEST(DirectoryFacts, AreThoseOfTheFileSystem) {
  const testing::TemporaryDirectory directory;
  const DirectoryFacts facts = look_at_directory(directory.path());
  EXPECT_NE(facts.file_system, "");
  EXPECT_GT(facts.free_bytes, 0u);
  EXPECT_GE(facts.total_bytes, facts.free_bytes);
  EXPECT_EQ(facts.direct, facts.why_not_direct.empty());
  const DirectoryFacts processes = look_at_directory("/dev/shm");
  EXPECT_EQ(processes.file_system, "tmpfs");
  EXPECT_TRUE(processes.in_memory);
  EXPECT_THROW(look_at_directory(directory / "none"), Error);
  EXPECT_THROW(look_at_directory("/proc"), Error);  // nobody makes files there
}

TEST(ScratchFile, IsDroppedFromThePageCache) {
  const testing::TemporaryDirectory directory;
  constexpr uint64_t kBytes = 8 << 20;
  const storage::BlockFile file = make_scratch_file(directory.path(), kBytes, DirectMode::kNo);
  const std::vector<std::byte> content(kBytes, std::byte{7});
  file.file.pwrite_all(content, 0);
  EXPECT_LT(drop_from_cache(file, kBytes), 0.02);
  // What cannot be dropped is seen: a tmpfs has nothing but its pages.
  const storage::BlockFile memory = make_scratch_file("/dev/shm", kBytes, DirectMode::kNo);
  memory.file.pwrite_all(content, 0);
  EXPECT_GT(drop_from_cache(memory, kBytes), 0.99);
}

}  // namespace
}  // namespace headrace::bench

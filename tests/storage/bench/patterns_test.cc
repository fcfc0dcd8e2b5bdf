#include "storage/bench/patterns.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <vector>

namespace headrace::bench {
namespace {

using storage::IoKind;

constexpr uint64_t kBlock = 8192;

FilePatternOptions options(ReadWrite rw, uint64_t blocks, std::vector<storage::FileIndex> files = {0}) {
  FilePatternOptions result;
  result.rw = rw;
  result.files = std::move(files);
  result.file_bytes = blocks * kBlock;
  result.block_bytes = kBlock;
  return result;
}

std::vector<Access> all_of(Pattern& pattern, size_t most = 1 << 20) {
  std::vector<Access> list;
  for (Access access; list.size() < most && pattern.next(access);) list.push_back(access);
  return list;
}

TEST(FilePattern, SequentialReadsCoverTheFileInOrder) {
  FilePattern pattern(options(ReadWrite::kRead, 7));
  const std::vector<Access> list = all_of(pattern);
  ASSERT_EQ(list.size(), 7u);
  for (size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(list[i].kind, IoKind::kRead);
    EXPECT_EQ(list[i].offset, i * kBlock);
    EXPECT_EQ(list[i].bytes, kBlock);
  }
}

TEST(FilePattern, GoesRoundTheFiles) {
  FilePattern pattern(options(ReadWrite::kWrite, 3, {4, 9}));
  const std::vector<Access> list = all_of(pattern);
  ASSERT_EQ(list.size(), 6u);
  for (size_t i = 0; i < list.size(); ++i) {
    EXPECT_EQ(list[i].kind, IoKind::kWrite);
    EXPECT_EQ(list[i].file, i % 2 == 0 ? 4u : 9u);
    EXPECT_EQ(list[i].offset, i / 2 * kBlock);
  }
}

TEST(FilePattern, RandomOrdersMeetEveryBlockOnceAndDifferByTheSeed) {
  for (const uint64_t blocks : {1, 2, 3, 5, 64, 65, 1000, 4097}) {
    FilePatternOptions one = options(ReadWrite::kRandomRead, blocks), other = one;
    other.seed = 2;
    FilePattern first(one), second(other);
    const std::vector<Access> list = all_of(first), different = all_of(second);
    ASSERT_EQ(list.size(), blocks);
    std::set<uint64_t> offsets;
    size_t same = 0, in_place = 0;
    for (size_t i = 0; i < blocks; ++i) {
      EXPECT_LT(list[i].offset, blocks * kBlock);
      EXPECT_EQ(list[i].offset % kBlock, 0u);
      offsets.insert(list[i].offset);
      same += list[i].offset == different[i].offset;
      in_place += list[i].offset == i * kBlock;
    }
    EXPECT_EQ(offsets.size(), blocks);
    if (blocks >= 64) {
      EXPECT_LT(same, blocks / 4);
      EXPECT_LT(in_place, blocks / 4);
    }
  }
}

TEST(FilePattern, MixesInItsShareEachDirectionInItsOwnOrder) {
  for (const uint32_t percent : {0u, 1u, 30u, 50u, 75u, 100u}) {
    FilePatternOptions mixed = options(ReadWrite::kMixed, 1000);
    mixed.mix_read_percent = percent;
    FilePattern pattern(mixed);
    uint64_t next[2] = {0, 0};
    size_t done = 0;
    for (const Access& access : all_of(pattern)) {
      uint64_t& turn = next[access.kind == IoKind::kRead ? 0 : 1];
      EXPECT_EQ(access.offset, turn++ * kBlock);
      ++done;
      // Never further from its share than one request.
      EXPECT_NEAR(double(next[0]), double(done) * percent / 100, 1.0);
    }
    EXPECT_EQ(done, 1000u);
    EXPECT_EQ(next[0], 10 * percent);
  }
}

TEST(FilePattern, BeginsAgainWhereItIsEndless) {
  FilePatternOptions endless = options(ReadWrite::kRandomMixed, 10);
  endless.endless = true;
  FilePattern pattern(endless);
  std::map<std::pair<IoKind, uint64_t>, int> times;
  for (const Access& access : all_of(pattern, 400)) ++times[{access.kind, access.offset}];
  ASSERT_EQ(times.size(), 20u);
  for (const auto& [place, count] : times) EXPECT_EQ(count, 20);
}

TEST(ReadWriteNames, AreThoseOfFio) {
  for (const char* name : {"read", "write", "rw", "randread", "randwrite", "randrw"}) {
    const auto rw = parse_read_write(name);
    ASSERT_TRUE(rw) << name;
    EXPECT_EQ(read_write_name(*rw), name);
  }
  EXPECT_EQ(parse_read_write("readwrite"), ReadWrite::kMixed);
  EXPECT_FALSE(parse_read_write("raed"));
}

TEST(ListPattern, GivesItsListOnceOrOverAndOver) {
  const std::vector<Access> list{{IoKind::kRead, 1, 0, 4096}, {IoKind::kWrite, 2, 8192, 4096}};
  ListPattern once(list), endless(list, true);
  EXPECT_EQ(all_of(once).size(), 2u);
  const std::vector<Access> more = all_of(endless, 5);
  ASSERT_EQ(more.size(), 5u);
  EXPECT_EQ(more[3].offset, 8192u);
  EXPECT_EQ(more[4].file, 1u);
}

}  // namespace
}  // namespace headrace::bench

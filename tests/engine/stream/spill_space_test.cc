#include "engine/stream/spill_space.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace headrace::stream {
namespace {

TEST(SpillSpace, GivesFreedSpaceAgainOnceItsReadersAreDone) {
  SpillSpace space(1);
  const SpillExtent first = space.take(100);
  const SpillExtent second = space.take(50);
  EXPECT_EQ(first.after_ops, 0U);
  EXPECT_EQ(second.offset, 100U);
  space.give_back(first, 7);
  const SpillExtent again = space.take(60);
  EXPECT_EQ(again.offset, 0U);
  EXPECT_EQ(again.bytes, 60U);
  EXPECT_EQ(again.after_ops, 7U) << "not before the operations that read it";
  EXPECT_EQ(space.file_bytes(0), 150U);
}

TEST(SpillSpace, JoinsNeighboursAndWaitsForBoth) {
  SpillSpace space(1);
  const SpillExtent a = space.take(10), b = space.take(10), c = space.take(10);
  space.give_back(a, 3);
  space.give_back(c, 9);
  space.give_back(b, 5);
  const SpillExtent all = space.take(30);
  EXPECT_EQ(all.offset, 0U);
  EXPECT_EQ(all.after_ops, 9U);
  EXPECT_EQ(space.file_bytes(0), 30U);
}

TEST(SpillSpace, SpreadsOverFiles) {
  SpillSpace space(3);
  std::vector<int> taken(3);
  for (int i = 0; i < 9; i++) taken[space.take(10).file]++;
  EXPECT_EQ(taken, (std::vector<int>{3, 3, 3}));
}

TEST(SpillSpace, NeverGivesOutBytesTwice) {
  const uint64_t seed = 5;
  std::mt19937_64 random(seed);
  SpillSpace space(2);
  std::vector<SpillExtent> live;
  for (int round = 0; round < 3000; round++) {
    if (!live.empty() && random() % 2 == 0) {
      const size_t at = random() % live.size();
      space.give_back(live[at], uint64_t(round));
      live.erase(live.begin() + ptrdiff_t(at));
      continue;
    }
    const SpillExtent taken = space.take(4096 * (1 + random() % 9));
    ASSERT_LE(taken.offset + taken.bytes, space.file_bytes(taken.file));
    for (const SpillExtent& other : live)
      ASSERT_TRUE(other.file != taken.file || other.offset + other.bytes <= taken.offset ||
                  taken.offset + taken.bytes <= other.offset)
          << "seed " << seed << " round " << round;
    live.push_back(taken);
  }
}

}  // namespace
}  // namespace headrace::stream

// Plans over random programs, held against tests/support/plan_checker.h.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <vector>

#include "engine/stream/cache.h"
#include "engine/train/preflight.h"
#include "tests/support/plan_checker.h"
#include "tests/support/stream_testing.h"

namespace headrace::stream {
namespace {

using headrace::testing::PlanChecker;
using headrace::testing::random_layout;
using headrace::testing::RandomPrograms;

constexpr VictimRule kRules[] = {VictimRule::kFarthest, VictimRule::kCheapest, VictimRule::kCheapestDirty,
                                 VictimRule::kLeastRecentlyUsed};

struct Session {
  std::vector<Program> programs;
  std::vector<Plan> plans;
  std::vector<std::string> faults;
  PlannedBytes bytes;
};

// A few programs in an arena between the least possible and half as much again as twice that.
Session plan_session(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto blocks = uint32_t(2 + random() % 8);
  const storage::Layout layout = random_layout(random, blocks);
  const EntrySpace space(blocks);
  const train::BlockEntrySizes sizes(layout, space,
                                     {.weight_planes = uint32_t(1 + random() % 2), .planes = 4});
  RandomPrograms generator(space, blocks, random());
  Session session;
  uint64_t least = 4096;
  for (int i = 0; i < 4; i++) {
    session.programs.push_back(generator.next());
    least = std::max(least, CachePlanner::least_arena_bytes(session.programs.back(), space, sizes));
  }
  const uint64_t arena = least + random() % 3 * (random() % (least + 1)) / 2;
  SpillSpace spill(uint32_t(1 + random() % 2));
  const CacheOptions options{.arena_bytes = arena,
                             .prefetch_bytes = random() % 2 * arena / 3,
                             .write_behind_bytes = random() % 2 * arena / 4,
                             .create_ahead_ops = uint32_t(random() % 4),
                             .rule = kRules[random() % std::size(kRules)]};
  CachePlanner planner(space, sizes, options, &spill);
  PlanChecker checker(space, sizes, arena);
  for (size_t i = 0; i < session.programs.size(); i++) {
    const bool last = i + 1 == session.programs.size();
    const StoreWrites writes = last                ? StoreWrites::kEverything
                               : random() % 2 == 0 ? StoreWrites::kDeferred
                                                   : StoreWrites::kAtOnce;
    session.plans.push_back(
        planner.plan(session.programs[i], last ? nullptr : &session.programs[i + 1], writes));
    checker.add(session.programs[i], session.plans.back(), writes);
    session.bytes.store_read += session.plans.back().bytes.store_read;
    session.bytes.spill_written += session.plans.back().bytes.spill_written;
    session.bytes.spill_read += session.plans.back().bytes.spill_read;
  }
  session.faults = checker.faults();
  return session;
}

TEST(Plan, IsSafeToCarryOut) {
  PlannedBytes bytes;
  for (uint64_t seed = 1; seed <= 2000; seed++) {
    const Session session = plan_session(seed);
    ASSERT_TRUE(session.faults.empty()) << "seed " << seed << ": " << session.faults.front() << ", and "
                                        << session.faults.size() - 1 << " more";
    bytes.store_read += session.bytes.store_read;
    bytes.spill_written += session.bytes.spill_written;
    bytes.spill_read += session.bytes.spill_read;
  }
  std::printf("read %.1f MB, spilled %.1f MB, read back %.1f MB\n", double(bytes.store_read) / 1e6,
              double(bytes.spill_written) / 1e6, double(bytes.spill_read) / 1e6);
  EXPECT_GT(bytes.spill_read, 0U) << "otherwise spilling was not looked at";
}

// A checker that finds nothing proves nothing: plans spoiled in each way that matters must not pass.
class SpoiledPlan : public ::testing::Test {
 protected:
  // Plans two programs whose memory is short, spoils the second plan, and returns whether that is seen.
  template <class Spoil>
  int times_seen(const Spoil& spoil) {
    int seen = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
      std::mt19937_64 random(seed);
      const storage::Layout layout = random_layout(random, 4);
      const EntrySpace space(4);
      const train::BlockEntrySizes sizes(layout, space, {});
      RandomPrograms generator(space, 4, seed);
      const std::vector<Program> programs{generator.next(), generator.next()};
      uint64_t arena = 4096;
      for (const Program& program : programs)
        arena = std::max(arena, CachePlanner::least_arena_bytes(program, space, sizes));
      SpillSpace spill(1);
      CachePlanner planner(space, sizes, {.arena_bytes = arena, .prefetch_bytes = arena / 3}, &spill);
      PlanChecker checker(space, sizes, arena);
      checker.add(programs[0], planner.plan(programs[0], &programs[1]));
      Plan plan = planner.plan(programs[1], nullptr);
      if (!spoil(plan)) continue;
      checker.add(programs[1], plan);
      seen += !checker.faults().empty();
    }
    return seen;
  }
};

TEST_F(SpoiledPlan, IsSeenWhenAPlacementDoesNotWaitForOperations) {
  EXPECT_GT(times_seen([](Plan& plan) {
              for (Placement& placement : plan.placements) placement.after_ops = 0;
              return !plan.placements.empty();
            }),
            150);
}

TEST_F(SpoiledPlan, IsSeenWhenAPlacementDoesNotWaitForWrites) {
  EXPECT_GT(times_seen([](Plan& plan) {
              bool any = false;
              for (const SpillWrite& spill : plan.spills)
                for (Placement& placement : plan.placements)
                  any |= std::erase(placement.after_writes, spill.id) > 0;
              return any;
            }),
            20);
}

TEST_F(SpoiledPlan, IsSeenWhenPlacementsOverlap) {
  EXPECT_GT(times_seen([](Plan& plan) {
              if (plan.placements.empty() || plan.placements.back().offset == 0) return false;
              plan.placements.back().offset -= 4096;
              return true;
            }),
            20);
}

TEST_F(SpoiledPlan, IsSeenWhenASpillComesTooEarly) {
  EXPECT_GT(times_seen([](Plan& plan) {
              if (plan.spills.empty()) return false;
              for (SpillWrite& spill : plan.spills) spill.after_ops = 0;
              return true;
            }),
            20);
}

TEST_F(SpoiledPlan, IsSeenWhenSpilledExtentsOverlap) {
  EXPECT_GT(times_seen([](Plan& plan) {
              if (plan.spills.size() < 2) return false;
              for (SpillWrite& spill : plan.spills) spill.extent.offset = 0;
              for (Placement& placement : plan.placements)
                if (placement.source == Source::kSpill) placement.spill.offset = 0;
              return true;
            }),
            5);
}

TEST_F(SpoiledPlan, IsSeenWhenBytesAreMiscounted) {
  EXPECT_GT(times_seen([](Plan& plan) {
              plan.bytes.spill_read += 4096;
              return true;
            }),
            199);
}

}  // namespace
}  // namespace headrace::stream

#include "engine/stream/cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <numeric>
#include <random>
#include <vector>

#include "tests/support/expect_error.h"

namespace headrace::stream {
namespace {

constexpr uint64_t kUnit = 4096;

// Entries are blocks' weights, whose sizes the test chooses.
class Sizes : public EntrySizes {
 public:
  explicit Sizes(std::vector<uint64_t> units) : units_(std::move(units)) {}
  uint64_t entry_bytes(EntryId id) const override { return units_[id] * kUnit; }

 private:
  std::vector<uint64_t> units_;
};

Program reads_of(const std::vector<std::vector<EntryId>>& sequence) {
  Program program;
  for (const std::vector<EntryId>& entries : sequence) {
    program.ops.push_back(
        {.first_access = uint32_t(program.accesses.size()), .access_count = uint32_t(entries.size())});
    for (const EntryId entry : entries) program.accesses.push_back({.entry = entry});
  }
  return program;
}

uint64_t planned_reads(const std::vector<std::vector<EntryId>>& sequence, const std::vector<uint64_t>& units,
                       uint64_t capacity, VictimRule rule = VictimRule::kFarthest) {
  const EntrySpace space(uint32_t(units.size()));
  const Sizes sizes(units);
  SpillSpace spill(1);
  CachePlanner planner(space, sizes, {.arena_bytes = capacity * kUnit, .create_ahead_ops = 0, .rule = rule},
                       &spill);
  return planner.plan(reads_of(sequence), nullptr).bytes.store_read / kUnit;
}

// The least that any sequence of evictions can read, by search over all sets of entries in memory.
uint64_t least_reads(const std::vector<std::vector<EntryId>>& sequence, const std::vector<uint64_t>& units,
                     uint64_t capacity) {
  const auto size_of = [&](uint32_t set) {
    uint64_t sum = 0;
    for (size_t i = 0; i < units.size(); i++) sum += (set >> i & 1) ? units[i] : 0;
    return sum;
  };
  std::map<uint32_t, uint64_t> states{{0, 0}};
  for (const std::vector<EntryId>& entries : sequence) {
    uint32_t needed = 0;
    for (const EntryId entry : entries) needed |= 1U << entry;
    std::map<uint32_t, uint64_t> after;
    for (const auto& [set, reads] : states) {
      const uint64_t cost = reads + size_of(needed & ~set);
      const uint32_t all = set | needed, optional = all & ~needed;
      for (uint32_t kept = optional;; kept = (kept - 1) & optional) {
        if (size_of(kept | needed) <= capacity) {
          const auto [at, added] = after.emplace(kept | needed, cost);
          if (!added) at->second = std::min(at->second, cost);
        }
        if (kept == 0) break;
      }
    }
    states = std::move(after);
  }
  uint64_t least = ~uint64_t{0};
  for (const auto& [set, reads] : states) least = std::min(least, reads);
  return least;
}

std::vector<std::vector<EntryId>> random_sequence(std::mt19937& random, uint32_t entries, size_t length) {
  std::vector<std::vector<EntryId>> sequence;
  for (size_t i = 0; i < length; i++) sequence.push_back({EntryId(random() % entries)});
  return sequence;
}

// Forward through all entries, backward through all, again and again: what training does.
std::vector<std::vector<EntryId>> sweeps(uint32_t entries, size_t steps) {
  std::vector<std::vector<EntryId>> sequence;
  for (size_t step = 0; step < steps; step++) {
    for (uint32_t i = 0; i < entries; i++) sequence.push_back({i});
    for (uint32_t i = entries; i-- > 0;) sequence.push_back({i});
  }
  return sequence;
}

TEST(Cache, ReadsTheLeastPossibleWhereBlocksHaveOneSize) {
  const uint32_t seed = 20240501;
  std::mt19937 random(seed);
  for (int round = 0; round < 300; round++) {
    const auto entries = uint32_t(3 + random() % 6);
    const uint64_t capacity = 1 + random() % entries;
    const std::vector<uint64_t> units(entries, 1);
    const auto sequence = random_sequence(random, entries, 40);
    ASSERT_EQ(planned_reads(sequence, units, capacity), least_reads(sequence, units, capacity))
        << "seed " << seed << " round " << round;
  }
}

TEST(Cache, StaysWithinFivePerCentOfTheLeastWhereBlocksHaveSeveralSizes) {
  const uint32_t seed = 20240502;
  std::mt19937 random(seed);
  uint64_t planned = 0, least = 0;
  double worst = 1;
  for (int round = 0; round < 300; round++) {
    const auto entries = uint32_t(4 + random() % 5);
    std::vector<uint64_t> units;
    for (uint32_t i = 0; i < entries; i++) units.push_back(1 + random() % 4);
    const uint64_t total = std::accumulate(units.begin(), units.end(), uint64_t{0});
    const uint64_t largest = *std::max_element(units.begin(), units.end());
    const uint64_t capacity = largest + random() % (total - largest + 1);
    const auto sequence = round % 2 ? random_sequence(random, entries, 40) : sweeps(entries, 3);
    const uint64_t a = std::min(planned_reads(sequence, units, capacity, VictimRule::kFarthest),
                                planned_reads(sequence, units, capacity, VictimRule::kCheapest));
    const uint64_t b = least_reads(sequence, units, capacity);
    ASSERT_GE(a, b);
    planned += a;
    least += b;
    worst = std::max(worst, double(a) / double(b));
  }
  std::printf("planned %llu, least %llu, ratio %.4f, worst %.4f\n", (unsigned long long)planned,
              (unsigned long long)least, double(planned) / double(least), worst);
  EXPECT_LE(double(planned), 1.05 * double(least)) << "seed " << seed;
}

TEST(Cache, BeatsLeastRecentlyUsedOnSweeps) {
  const std::vector<uint64_t> units(8, 1);
  const auto cyclic = [&] {
    std::vector<std::vector<EntryId>> sequence;
    for (int step = 0; step < 5; step++)
      for (uint32_t i = 0; i < 8; i++) sequence.push_back({i});
    return sequence;
  }();
  EXPECT_EQ(planned_reads(cyclic, units, 6, VictimRule::kLeastRecentlyUsed), 40U) << "no hit at all";
  EXPECT_LT(planned_reads(cyclic, units, 6), 20U);
}

TEST(Cache, RefusesAnArenaSmallerThanAnOperation) {
  testing::expect_error(ErrorKind::kRefused, "one operation needs 16384 bytes at once, and 12288 are there",
                        [] {
                          planned_reads({{0, 1}}, {2, 2}, 3);
                        });
}

}  // namespace
}  // namespace headrace::stream

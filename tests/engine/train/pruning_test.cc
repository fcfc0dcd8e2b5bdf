#include "engine/train/pruning.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/train/run_options.h"
#include "storage/error.h"

namespace headrace::train {
namespace {

RunOptions options(double sparsity, uint64_t begin, uint64_t end, uint64_t every, double initial = 0) {
  RunOptions options;
  options.prune_sparsity = sparsity;
  options.prune_initial = initial;
  options.prune_begin = begin;
  options.prune_end = end;
  options.prune_every = every;
  return options;
}

std::vector<uint64_t> steps_of(const RunOptions& o, uint64_t last) {
  std::vector<uint64_t> steps;
  for (uint64_t step = 1; step <= last; step++)
    if (prunes_at(o, step)) steps.push_back(step);
  return steps;
}

TEST(PruningSchedule, PrunesAtTheBeginningEveryFewStepsAndAtTheEnd) {
  EXPECT_EQ(steps_of(options(0.5, 10, 50, 10), 200), (std::vector<uint64_t>{10, 20, 30, 40, 50}));
  EXPECT_EQ(steps_of(options(0.5, 10, 47, 10), 200), (std::vector<uint64_t>{10, 20, 30, 40, 47}));
  EXPECT_EQ(steps_of(options(0.5, 10, 0, 10), 200), std::vector<uint64_t>{10});
  EXPECT_EQ(steps_of(options(0.5, 10, 10, 1), 200), std::vector<uint64_t>{10});
  EXPECT_EQ(steps_of(options(0, 10, 50, 10), 200), std::vector<uint64_t>{});
}

// tfmot.sparsity.keras.PolynomialDecay(0.5, 0.9, 100, 500, power=3, frequency=100).
TEST(PruningSchedule, IsThePolynomialOfZhuAndGupta) {
  const RunOptions o = options(0.9, 100, 500, 100, 0.5);
  EXPECT_EQ(sparsity_at(o, 99), 0);
  EXPECT_DOUBLE_EQ(sparsity_at(o, 100), 0.5);
  EXPECT_DOUBLE_EQ(sparsity_at(o, 200), 0.9 - 0.4 * 27 / 64);
  EXPECT_DOUBLE_EQ(sparsity_at(o, 299), 0.9 - 0.4 * 27 / 64) << "nothing was pruned since";
  EXPECT_DOUBLE_EQ(sparsity_at(o, 300), 0.9 - 0.4 / 8);
  EXPECT_DOUBLE_EQ(sparsity_at(o, 400), 0.9 - 0.4 / 64);
  EXPECT_EQ(sparsity_at(o, 500), 0.9);
  EXPECT_EQ(sparsity_at(o, 5000), 0.9);
  EXPECT_EQ(sparsity_at(options(0.9, 7, 0, 100), 6), 0);
  EXPECT_EQ(sparsity_at(options(0.9, 7, 0, 100), 7), 0.9);
}

TEST(PruningOptions, AreRefusedWhereTheyContradictEachOther) {
  for (const RunOptions& o : {options(0.5, 10, 9, 1), options(0.5, 10, 20, 1, 0.6),
                              options(0.5, 10, 0, 1, 0.2), options(0, 10, 0, 100), options(0, 1, 0, 5)})
    try {
      check_run_options(o);
      ADD_FAILURE() << o.prune_sparsity << " " << o.prune_begin << " " << o.prune_end;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kUsage);
      EXPECT_NE(error.advice(), "");
    }
  EXPECT_NO_THROW(check_run_options(options(0.5, 10, 20, 100, 0.5)));
  EXPECT_NO_THROW(check_run_options(RunOptions{}));
}

}  // namespace
}  // namespace headrace::train

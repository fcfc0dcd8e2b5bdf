// Completions that come late or in another order change nothing: each request of a training delayed once, and
// all completions shuffled.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "models/gpt2.h"
#include "tests/faults/tiny_training.h"
#include "tests/support/faulty_io.h"

namespace headrace {
namespace {

using namespace testing;
using storage::BlockIo;
using storage::IoKind;

class CompletionOrder : public ::testing::Test {
 protected:
  // With each of `faults` on the session's I/O.
  TrainingResult train(std::vector<Fault> faults, std::optional<uint64_t> shuffle_seed = std::nullopt) {
    TrainingOptions options = tiny_training_options();
    options.wrap_io = [&](BlockIo& drive) {
      auto faulty = std::make_unique<FaultyIo>(drive, faults, shuffle_seed);
      faulty_ = faulty.get();
      return faulty;
    };
    options.committed = [this](const train::StepReport&) {
      for (const IoKind kind : {IoKind::kRead, IoKind::kWrite, IoKind::kSync})
        submitted_[size_t(kind)] = faulty_->submitted(kind);
    };
    return run_training(*models::make_gpt2(tiny_config()), options, tiny_batches());
  }

  void expect_same(const TrainingResult& result, const std::string& how) {
    EXPECT_EQ(result.digest, reference_.digest) << how;
    EXPECT_EQ(result.numbers, reference_.numbers) << how;
  }

  FaultyIo* faulty_ = nullptr;
  std::array<uint64_t, 3> submitted_{};
  TrainingResult reference_ = train({});
};

TEST_F(CompletionOrder, DoesNotMatterWhereOneIsLate) {
  const bool whole = std::getenv("HEADRACE_ALL_FAULTS") != nullptr;
  const std::array<uint64_t, 3> submitted = submitted_;
  int delays = 0;
  for (const IoKind kind : {IoKind::kRead, IoKind::kWrite, IoKind::kSync}) {
    const uint64_t count = submitted[size_t(kind)];
    ASSERT_GT(count, 0u);
    for (uint64_t number = 0; number < count; number += whole ? 1 : std::max<uint64_t>(1, count / 10)) {
      const Fault fault{.kind = kind, .number = number, .action = FaultAction::kDelay, .completions = 20};
      expect_same(train({fault}), fmt::format("request {} of kind {} is late", number, int(kind)));
      delays++;
    }
  }
  std::printf("%d delays\n", delays);
}

TEST_F(CompletionOrder, DoesNotMatterAtAll) {
  const uint64_t seeds = std::getenv("HEADRACE_ALL_FAULTS") != nullptr ? 500 : 8;
  for (uint64_t seed = 0; seed < seeds; seed++) expect_same(train({}, seed), fmt::format("seed {}", seed));
}

}  // namespace
}  // namespace headrace

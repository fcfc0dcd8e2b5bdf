#include "engine/stream/streamer.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "storage/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/streamed_session.h"

namespace headrace::stream {
namespace {

using headrace::testing::Fault;
using headrace::testing::FaultAction;
using headrace::testing::run_within;
using headrace::testing::StreamedSession;
using storage::IoKind;

constexpr double kPatienceSeconds = 60;

TEST(Streamer, GivesEveryOperationWhatWasWrittenLastAndMovesWhatWasPlanned) {
  uint64_t spilled = 0;
  for (uint64_t seed = 1; seed <= 300; seed++) {
    run_within(kPatienceSeconds, fmt::format("seed {}", seed), [&] {
      StreamedSession session(seed, {});
      session.run();
      EXPECT_EQ(session.wrong_contents(), 0) << "seed " << seed;
      EXPECT_EQ(session.moved().read_bytes, session.planned().read()) << "seed " << seed;
      EXPECT_EQ(session.moved().written_bytes, session.planned().written()) << "seed " << seed;
      spilled += session.planned().spill_read;
    });
    if (HasFailure()) return;
  }
  EXPECT_GT(spilled, 0U) << "otherwise spilling was not looked at";
}

// What an Error says of a run with one fault; "" where it ended well.
struct Ending {
  bool threw = false, met = false;
  ErrorKind kind = ErrorKind::kFailed;
  std::string text;
};

Ending run_with(uint64_t seed, const Fault& fault) {
  Ending ending;
  run_within(kPatienceSeconds, fmt::format("seed {} request {}", seed, fault.number), [&] {
    StreamedSession session(seed, {fault});
    try {
      session.run();
    } catch (const Error& error) {
      ending.threw = true;
      ending.kind = error.kind();
      ending.text = error.what();
    }
    ending.met = session.io().faults_met() > 0;
    EXPECT_EQ(session.wrong_contents(), 0) << "seed " << seed << " request " << fault.number;
  });
  return ending;
}

TEST(Streamer, SurfacesAReadThatFails) {
  int met = 0;
  for (uint64_t seed = 1; seed <= 40; seed++)
    for (const uint64_t number : {0, 3, 11, 40}) {
      const Ending ending = run_with(seed, {.kind = IoKind::kRead, .number = number});
      EXPECT_EQ(ending.threw, ending.met) << "seed " << seed << " request " << number;
      if (ending.threw) {
        EXPECT_NE(ending.text.find("scripted fault"), std::string::npos) << ending.text;
      }
      met += ending.met;
    }
  EXPECT_GT(met, 80);
}

TEST(Streamer, SurfacesAWriteThatFails) {
  int met = 0;
  for (uint64_t seed = 1; seed <= 40; seed++)
    for (const uint64_t number : {0, 2, 9}) {
      const Ending ending = run_with(seed, {.kind = IoKind::kWrite, .number = number});
      EXPECT_EQ(ending.threw, ending.met) << "seed " << seed << " request " << number;
      met += ending.met;
    }
  EXPECT_GT(met, 60);
}

// A read that nobody uses (it is evicted before) is not looked at, and so its flipped bit does no harm; that
// an operation never sees a wrong byte is checked in all runs.
TEST(Streamer, SurfacesAFlippedBitAsCorruption) {
  int met = 0, threw = 0;
  for (uint64_t seed = 1; seed <= 60; seed++)
    for (const uint64_t number : {0, 2, 5, 9, 17, 30}) {
      const Ending ending = run_with(
          seed,
          {.kind = IoKind::kRead, .number = number, .action = FaultAction::kFlipBit, .bit = 8 * 77 + 3});
      if (ending.threw) {
        EXPECT_EQ(ending.kind, ErrorKind::kCorrupt) << ending.text;
      }
      met += ending.met;
      threw += ending.threw;
    }
  std::printf("%d flipped bits, %d errors\n", met, threw);
  EXPECT_GT(met, 150);
  EXPECT_GE(threw, met * 9 / 10);
}

// A write that is lost or lies elsewhere is found by whoever reads the block or the spilled entry again.
TEST(Streamer, NeverUsesContentWhoseWriteWasLostOrMisplaced) {
  for (const FaultAction action : {FaultAction::kLoseWrite, FaultAction::kMisplaceWrite}) {
    int threw = 0;
    for (uint64_t seed = 1; seed <= 60; seed++)
      for (const uint64_t number : {0, 4, 10}) {
        const Ending ending = run_with(
            seed, {.kind = IoKind::kWrite, .number = number, .action = action, .displacement = 4096});
        if (ending.threw) {
          EXPECT_EQ(ending.kind, ErrorKind::kCorrupt) << ending.text;
        }
        threw += ending.threw;
      }
    EXPECT_GT(threw, 20);
  }
}

}  // namespace
}  // namespace headrace::stream

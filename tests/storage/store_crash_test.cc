// Kills a process that commits, at random moments and at chosen ones, and looks at what it left.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <random>
#include <thread>

#include "storage/store.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;

constexpr uint64_t kEndless = 1000000;
#ifdef HEADRACE_ADDRESS_SANITIZER
constexpr int kKills = 5;  // everything takes several times as long
#else
constexpr int kKills = 25;
#endif

class StoreCrashTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto io = make_block_io({});
    std::filesystem::create_directory(directory_ / "a");
    std::filesystem::create_directory(directory_ / "b");
    create_small(small_config(run_, {directory_ / "a", directory_ / "b"}), *io);
  }

  // The child commits steps until it is killed, and writes each step's number when its commit returned.
  pid_t start(uint64_t last_step, int acknowledge) {
    const pid_t child = fork();
    if (child != 0) return child;
    try {
      const auto io = make_block_io({});
      const auto store = Store::open(run_, {}, *io);
      for (uint64_t step = store->step() + 1; step <= last_step; step++) {
        write_and_commit(*store, *io, step);
        if (write(acknowledge, &step, sizeof step) != sizeof step) _exit(2);
      }
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
      _exit(3);
    }
    _exit(0);
  }

  // All acknowledged, one or none more, everything exactly of that step.
  uint64_t check_after(uint64_t acknowledged) {
    const auto io = make_block_io({});
    const auto store = Store::open(run_, {}, *io);
    const uint64_t step = store->step();
    EXPECT_TRUE(step == acknowledged || step == acknowledged + 1) << step << " after " << acknowledged;
    EXPECT_EQ(first_difference(*store, *io, step), "");
    EXPECT_EQ(read_file(run_ + "/metrics.jsonl"), metrics_lines(1, step));
    EXPECT_EQ(store->cursor_json(), fmt::format("{{\"at\":{}}}", step));
    return step;
  }

  TemporaryDirectory directory_;
  std::string run_ = directory_ / "run";
};

TEST_F(StoreCrashTest, AKillAtAnyMomentLosesAtMostTheStepInFlight) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  uint64_t step = 0;
  for (int round = 0; round < kKills; round++) {
    int pipe_ends[2];
    ASSERT_EQ(pipe(pipe_ends), 0);
    const pid_t child = start(kEndless, pipe_ends[1]);
    close(pipe_ends[1]);
    uint64_t acknowledged = step, got = 0;
    ASSERT_EQ(read(pipe_ends[0], &got, sizeof got), static_cast<ssize_t>(sizeof got));  // it is under way
    acknowledged = got;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60000));
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    while (read(pipe_ends[0], &got, sizeof got) == static_cast<ssize_t>(sizeof got)) acknowledged = got;
    close(pipe_ends[0]);
    step = check_after(acknowledged);
    if (HasFailure()) break;
  }
  EXPECT_GE(step, uint64_t{kKills});  // each round saw at least one commit
}

TEST_F(StoreCrashTest, LinesOfACommitThatDiedBeforeItAppendedThemAreAppended) {
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  const pid_t child = start(4, pipe_ends[1]);
  close(pipe_ends[1]);
  int status = 0;
  waitpid(child, &status, 0);
  close(pipe_ends[0]);
  ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  std::filesystem::resize_file(run_ + "/metrics.jsonl", metrics_lines(1, 3).size());
  EXPECT_EQ(check_after(4), 4u);
}

}  // namespace
}  // namespace headrace

#include "engine/train/space_wait.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <filesystem>
#include <vector>

#include "tests/support/expect_error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::train {
namespace {

using storage::SpaceError;

class Lines final : public TrainListener {
 public:
  void narrate(const std::string& line) override { lines.push_back(line); }
  void working(const std::string&, double) override {}
  void step_done(const StepReport&) override {}
  void evaluated(const EvalSummary&) override {}
  std::vector<std::string> lines;
};

class SpaceWaitTest : public ::testing::Test {
 protected:
  SpaceError too_little() const { return {directory_.path(), 4096, "lines", ENOSPC}; }
  void make_checkpoint(const std::string& name, size_t bytes) {
    std::filesystem::create_directories(directory_ / ("checkpoints/" + name));
    testing::write_file(directory_ / ("checkpoints/" + name + "/pack"), std::string(bytes, 'x'));
  }

  const testing::TemporaryDirectory directory_;
  Lines lines_;
  std::atomic<int> stop_{0};
};

TEST_F(SpaceWaitTest, AnnouncesAWaitOnceAndItsEnd) {
  SpaceWait space({.waits = true, .run_dir = directory_.path()}, lines_, stop_);
  int tries = 0;
  storage::with_space(&space, [&] {
    if (++tries < 3) throw too_little();
  });
  ASSERT_EQ(lines_.lines.size(), 2u);
  EXPECT_NE(lines_.lines[0].find("4096 bytes more are needed for lines"), std::string::npos)
      << lines_.lines[0];
  EXPECT_EQ(lines_.lines[1], "there is room again: going on");
}

TEST_F(SpaceWaitTest, RefusesBeforeTheStartAndFailsAfter) {
  SpaceWait space({.waits = false, .run_dir = directory_.path()}, lines_, stop_);
  testing::expect_error(ErrorKind::kRefused, "too little space", [&] { space.wait(too_little()); });
  space.started();
  testing::expect_error(ErrorKind::kFailed, "too little space", [&] { space.wait(too_little()); });
}

TEST_F(SpaceWaitTest, EndsWithTheSession) {
  SpaceWait space({.waits = true, .run_dir = directory_.path()}, lines_, stop_);
  stop_ = 2;
  EXPECT_THROW(space.wait(too_little()), StoppedWhileWaiting);
  stop_ = 0;
  space.end();
  EXPECT_THROW(space.wait(too_little()), StoppedWhileWaiting);
}

TEST_F(SpaceWaitTest, NamesTheCheckpointsThatCouldGo) {
  EXPECT_EQ(old_checkpoints(directory_.path(), directory_.path()), "");
  make_checkpoint("step-000300", 100);
  EXPECT_EQ(old_checkpoints(directory_.path(), directory_.path()), "") << "not the newest";
  make_checkpoint("step-000100", 3000);
  make_checkpoint("step-000200", 1096);
  EXPECT_EQ(old_checkpoints(directory_.path(), directory_.path()),
            directory_ / "checkpoints/step-000100 and 1 more there, 4.00 KiB in all");
  EXPECT_EQ(old_checkpoints(directory_.path(), "/proc"), "") << "on another file system";
}

}  // namespace
}  // namespace headrace::train

#include "tools/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::tools {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

ProgressState half_way() {
  ProgressState state;
  state.total_steps = 100;
  state.first_step = 41;
  state.last.step = 50;
  state.last.loss = 3.25;
  state.last.tokens = 1024;
  state.last.seconds = 2;
  state.last.read_wait_seconds = 0.5;
  state.session_steps = 10;
  state.session_seconds = 20;
  state.session_tokens = 10240;
  state.wait_seconds = 2;
  return state;
}

size_t columns(const std::string& line) {
  size_t count = 0;
  bool escape = false;
  for (const char c : line) {
    if (c == '\x1b') escape = true;
    if (!escape) ++count;
    if (c == 'm') escape = false;
  }
  return count;
}

TEST(StatusLine, TellsStepLossSpeedAndTimeLeft) {
  const std::string line = render_status(half_way(), {true, false, 120});
  EXPECT_EQ(line,
            "step 50/100  loss 3.2500  eta 1 min 40 s  512 tokens/s  [##########----------]  disk wait 10%");
}

TEST(StatusLine, FitsAnyWidth) {
  for (uint32_t width = 0; width < 130; ++width) {
    EXPECT_LE(columns(render_status(half_way(), {true, false, width})), width == 0 ? 0 : width - 1);
  }
  EXPECT_EQ(render_status(half_way(), {true, false, 30}), "step 50/100  loss 3.2500");
}

TEST(StatusLine, HasColoursOnlyWhereWanted) {
  EXPECT_THAT(render_status(half_way(), {true, true, 120}), HasSubstr("\x1b[36m"));
  EXPECT_THAT(render_status(half_way(), {true, false, 120}), Not(HasSubstr("\x1b")));
}

TEST(StatusLine, ShowsAPhaseBeforeTheFirstStep) {
  ProgressState state;
  state.phase = "creating the run";
  state.fraction = 0.25;
  EXPECT_EQ(render_status(state, {true, false, 80}), "creating the run  25%  [#####---------------]");
  EXPECT_EQ(render_phase(state), "creating the run  25%");
}

TEST(StatusLine, SaysHowLongAPhaseWillTake) {
  ProgressState state;
  state.phase = "creating the run";
  state.fraction = 0.25;
  state.phase_seconds = 4;
  EXPECT_EQ(render_status(state, {true, false, 80}),
            "creating the run  25%  eta 12.0 s  [#####---------------]");
  EXPECT_EQ(render_status(state, {true, false, 40}), "creating the run  25%  eta 12.0 s");
  EXPECT_EQ(render_phase(state), "creating the run  25%  eta 12.0 s");
  state.fraction = 0.001;  // too early to tell
  EXPECT_EQ(render_phase(state), "creating the run   0%");
}

TEST(StatusLine, SurvivesNumbersThatAreNone) {
  ProgressState state = half_way();
  state.last.loss = std::numeric_limits<double>::quiet_NaN();
  state.session_seconds = 0;
  state.total_steps = 0;
  EXPECT_THAT(render_status(state, {true, false, 200}), HasSubstr("loss nan"));
}

TEST(StepLine, IsPlain) {
  EXPECT_EQ(render_step(half_way()),
            "step 50/100  loss 3.2500  512 tokens/s  waiting for the disk 25%  eta 1 min 40 s");
}

train::TrainSummary summary() {
  train::TrainSummary s;
  s.run_dir = "run";
  s.model = "gpt2";
  s.io = "io_uring";
  s.parameters = 124'439'808;
  s.state_bytes = 1'493'277'696;
  s.memory_bytes = 256 << 20;
  s.peak_rss_bytes = 250 << 20;
  s.first_step = 1;
  s.last_step = 30;
  s.total_steps = 30;
  s.first_loss = 5.5;
  s.last_loss = 2.5;
  s.tokens = 30 * 1024;
  s.seconds = 300;
  s.read_wait_seconds = 30;
  s.read_bytes = 30ULL << 30;
  return s;
}

TEST(Summary, IsForANewcomer) {
  const std::string text = render_summary(summary());
  for (const char* part :
       {"Trained to step 30 of 30.", "gpt2, 124.4 M parameters", "1.39 GiB of parameters and optimizer",
        "256.0 MiB, 18% of the state", "250.0 MiB of the whole process",
        "5.5000 at step 1, 2.5000 at step 30", "102 tokens a second, 5 min 00 s in all", "1.00 GiB a step",
        "10% of the time (io_uring)"}) {
    EXPECT_THAT(text, HasSubstr(part));
  }
}

TEST(Summary, SaysThatTheTrainingWasStoppedOrHadNothingToDo) {
  train::TrainSummary s = summary();
  s.stopped = true;
  s.last_step = 12;
  EXPECT_THAT(render_summary(s), HasSubstr("Stopped at step 12 of 30."));
  s.first_step = s.last_step = 0;
  s.stopped = false;
  EXPECT_THAT(render_summary(s), HasSubstr("nothing was left to do"));
}

TEST(Summary, IsJsonForScripts) {
  const auto json = nlohmann::json::parse(summary_json(summary()));
  EXPECT_EQ(json["last_step"], 30);
  EXPECT_EQ(json["memory_bytes"], 256 << 20);
}

class ProgressOutput : public ::testing::Test {
 protected:
  ProgressOptions options(bool terminal, const std::string& out_path = "") {
    ProgressOptions o;
    o.style = {terminal, false, 80};
    out_.reset(std::fopen(out_path.empty() ? (directory_ / "out").c_str() : out_path.c_str(), "w"));
    err_.reset(std::fopen((directory_ / "err").c_str(), "w"));
    o.out = out_.get();
    o.err = err_.get();
    return o;
  }
  static train::StepReport step(uint64_t number) {
    train::StepReport report;
    report.step = number;
    report.seconds = 1;
    return report;
  }
  std::string text(const std::string& name) {
    std::fflush(name == "out" ? out_.get() : err_.get());
    return testing::read_file(directory_ / name);
  }

  testing::TemporaryDirectory directory_;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> out_{nullptr, std::fclose}, err_{nullptr, std::fclose};
  std::atomic<int> stop_{0};
};

TEST_F(ProgressOutput, IsALineAStepWhereThereIsNoTerminal) {
  Progress progress(options(false), 3, stop_);
  progress.narrate("hello");
  for (uint64_t n = 1; n <= 3; ++n) progress.step_done(step(n));
  progress.finish("done\n");
  const std::string err = text("err");
  EXPECT_THAT(err, HasSubstr("hello\nstep 1/3"));
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 4);
  EXPECT_THAT(err, Not(HasSubstr("\r")));
  EXPECT_EQ(text("out"), "done\n");
}

TEST_F(ProgressOutput, RedrawsOneLineOnATerminalAndTakesItAway) {
  Progress progress(options(true), 1000, stop_);
  for (uint64_t n = 1; n <= 1000; ++n) progress.step_done(step(n));
  progress.clear();
  const std::string err = text("err");
  EXPECT_LT(std::count(err.begin(), err.end(), '\r'), 20);  // far fewer than steps: five a second
  EXPECT_THAT(err, HasSubstr("step 1000/1000"));
  EXPECT_TRUE(err.ends_with("\r\x1b[K"));
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 0);
}

TEST_F(ProgressOutput, HasALineNowAndThenForALongPhaseWithoutATerminal) {
  ProgressOptions o = options(false);
  o.plain_every = std::chrono::milliseconds(0);
  Progress progress(o, 3, stop_);
  for (const double fraction : {0.0, 0.5, 1.0}) progress.working("creating", fraction);
  EXPECT_EQ(text("err"), "creating   0%\ncreating  50%\n");
  Progress seldom(options(false), 3, stop_);  // seconds have not passed
  for (const double fraction : {0.0, 0.5, 1.0}) seldom.working("creating", fraction);
  EXPECT_EQ(text("err"), "");
}

TEST_F(ProgressOutput, IsQuietOnRequest) {
  ProgressOptions o = options(true);
  o.quiet = true;
  Progress progress(o, 3, stop_);
  progress.narrate("hello");
  progress.working("creating", 0.5);
  progress.step_done(step(1));
  EXPECT_EQ(text("err"), "");
}

TEST_F(ProgressOutput, IsOneJsonObjectAStepOnRequest) {
  ProgressOptions o = options(false);
  o.json = true;
  Progress progress(o, 3, stop_);
  progress.step_done(step(1));
  progress.step_done(step(2));
  EXPECT_EQ(text("out"), train::metrics_line(step(1)) + "\n" + train::metrics_line(step(2)) + "\n");
  EXPECT_EQ(text("err"), "");
}

TEST_F(ProgressOutput, StopsTheTrainingWhenResultsCannotBeWritten) {
  ProgressOptions o = options(false, "/dev/full");
  o.json = true;
  Progress progress(o, 3, stop_);
  progress.step_done(step(1));
  EXPECT_NE(stop_, 0);
  try {
    progress.finish("");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("No space left on device"));
  }
}

}  // namespace
}  // namespace headrace::tools

// What a person sees of a training session: on a terminal one status line, redrawn at most five times a
// second; elsewhere a line a step, and one every few seconds of a long phase. Narration goes above it.
// Everything goes to standard error; with --json, steps go to standard output instead, as JSON.
//
// Threads: one at a time, as the trainer calls a listener. A fault of standard output is remembered and asks
// the training to stop; it is thrown by finish().
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

#include "engine/train/report.h"

namespace headrace::tools {

struct TerminalStyle {
  bool is_terminal = false;  // a status line can be redrawn
  bool colour = false;
  uint32_t width = 80;  // columns
};

// Of standard error, or of another descriptor: no terminal where TERM is "dumb"; no colour where NO_COLOR is
// set.
TerminalStyle terminal_style(int descriptor = 2);

struct ProgressState {
  uint64_t total_steps = 0;
  uint64_t first_step = 0;                       // of this session
  double session_seconds = 0, wait_seconds = 0;  // sums over the session's steps
  uint64_t session_tokens = 0, session_steps = 0;
  std::string rows = "tokens";  // what is trained on: "samples"
  train::StepReport last;
  std::string phase;         // "creating the run", while nothing is trained yet
  double fraction = 0;       // of the phase
  double phase_seconds = 0;  // since it began
};

// One line without line feed, at most style.width - 1 columns wide. Pure.
std::string render_status(const ProgressState& state, const TerminalStyle& style);
// The plain line of a phase: "creating the run  25%  eta 12.0 s".
std::string render_phase(const ProgressState& state);
// The plain line of a step: "step 12/100  loss 3.2101  2048 tokens/s  waiting for the disk 12%  eta 3 min 12
// s".
std::string render_step(const ProgressState& state);
// The summary for people, several lines, each with its line feed; and for scripts, one JSON object.
std::string render_summary(const train::TrainSummary& summary);
std::string summary_json(const train::TrainSummary& summary);

struct ProgressOptions {
  bool json = false, quiet = false;
  TerminalStyle style;
  std::chrono::milliseconds plain_every{5000};  // plain lines of a phase, where there is no terminal
  std::FILE* out = stdout;
  std::FILE* err = stderr;
};

class Progress : public train::TrainListener {
 public:
  Progress(const ProgressOptions& options, uint64_t total_steps, std::atomic<int>& stop_requested)
      : options_(options), stop_requested_(stop_requested) {
    state_.total_steps = total_steps;
  }
  ~Progress() override { clear(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void narrate(const std::string& line) override;
  void working(const std::string& phase, double fraction) override;
  void step_done(const train::StepReport& report) override;
  void evaluated(const train::EvalSummary& summary) override;

  void set_rows(const std::string& name) { state_.rows = name; }  // what is trained on
  void clear();                                                   // takes the status line away
  // Prints a result to standard output. Throws Error (kFailed) when that, or a line before, could not be
  // written.
  void finish(const std::string& result);

 private:
  void redraw(bool now);
  void print_result(const std::string& text);

  ProgressOptions options_;
  std::atomic<int>& stop_requested_;
  ProgressState state_;
  bool drawn_ = false;
  int output_error_ = 0;  // errno
  std::chrono::steady_clock::time_point last_draw_{}, phase_start_{}, last_plain_{};
};

}  // namespace headrace::tools

#include "tools/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>
#include <vector>

#include "storage/error.h"
#include "storage/text.h"
#include "tools/eval_report.h"

namespace headrace::tools {
namespace {

constexpr std::chrono::milliseconds kRedrawEvery{200};
constexpr size_t kBarColumns = 20;
constexpr double kTellingFraction = 0.02, kTellingSeconds = 0.3;

double rate(const ProgressState& state) {
  return state.session_seconds > 0 ? static_cast<double>(state.session_tokens) / state.session_seconds : 0;
}

double wait_share(double wait_seconds, double seconds) {
  return seconds > 0 ? std::clamp(wait_seconds / seconds, 0.0, 1.0) : 0;
}

std::string remaining(const ProgressState& state) {
  if (state.session_steps == 0 || state.last.step >= state.total_steps) return "0 s";
  const double per_step = state.session_seconds / static_cast<double>(state.session_steps);
  return format_duration(per_step * static_cast<double>(state.total_steps - state.last.step));
}

std::string phase_done(const ProgressState& state) {
  return fmt::format("{} {:3.0f}%", state.phase, 100 * std::clamp(state.fraction, 0.0, 1.0));
}

// "eta 12 s", once enough of the phase has passed to tell; else nothing.
std::string phase_remaining(const ProgressState& state) {
  if (state.fraction < kTellingFraction || state.phase_seconds < kTellingSeconds) return "";
  return "eta " + format_duration(state.phase_seconds * (1 - state.fraction) / state.fraction);
}

std::string bar(double fraction, const TerminalStyle& style) {
  const auto full = static_cast<size_t>(std::clamp(fraction, 0.0, 1.0) * kBarColumns);
  const std::string filled(full, '#'), rest(kBarColumns - full, '-');
  if (!style.colour) return "[" + filled + rest + "]";
  return "[\x1b[36m" + filled + "\x1b[0m" + rest + "]";
}

// Columns of a text of ours: ASCII, and colours that take none.
size_t columns(std::string_view text) {
  size_t count = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      i = std::min(text.find('m', i), text.size() - 1);
    } else {
      ++count;
    }
  }
  return count;
}

}  // namespace

TerminalStyle terminal_style(int descriptor) {
  TerminalStyle style;
  const char* term = std::getenv("TERM");
  style.is_terminal = ::isatty(descriptor) == 1 && term != nullptr && std::string_view(term) != "dumb";
  const char* no_colour = std::getenv("NO_COLOR");
  style.colour = style.is_terminal && (no_colour == nullptr || *no_colour == '\0');
  winsize size{};
  if (::ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) style.width = size.ws_col;
  return style;
}

std::string render_status(const ProgressState& state, const TerminalStyle& style) {
  std::vector<std::string> parts;  // the first matter most
  if (!state.phase.empty()) {
    parts = {phase_done(state)};
    if (const std::string eta = phase_remaining(state); !eta.empty()) parts.push_back(eta);
    parts.push_back(bar(state.fraction, style));
  } else {
    const double done = state.total_steps == 0
                            ? 1
                            : static_cast<double>(state.last.step) / static_cast<double>(state.total_steps);
    parts = {fmt::format("step {}/{}", state.last.step, state.total_steps),
             fmt::format("loss {:.4f}", state.last.loss),
             fmt::format("eta {}", remaining(state)),
             fmt::format("{} {}/s", format_count(std::round(rate(state))), state.rows),
             bar(done, style),
             fmt::format("disk wait {:.0f}%", 100 * wait_share(state.wait_seconds, state.session_seconds))};
  }
  std::string line;
  for (const std::string& part : parts) {
    const size_t wanted = columns(line) + (line.empty() ? 0 : 2) + columns(part);
    if (wanted + 1 > style.width) break;
    line += (line.empty() ? "" : "  ") + part;
  }
  return line;
}

std::string render_phase(const ProgressState& state) {
  const std::string eta = phase_remaining(state);
  return phase_done(state) + (eta.empty() ? "" : "  " + eta);
}

std::string render_step(const ProgressState& state) {
  const train::StepReport& r = state.last;
  const double speed = r.seconds > 0 ? static_cast<double>(r.tokens) / r.seconds : 0;
  return fmt::format("step {}/{}  loss {:.4f}  {} {}/s  waiting for the disk {:.0f}%  eta {}", r.step,
                     state.total_steps, r.loss, format_count(std::round(speed)), state.rows,
                     100 * wait_share(r.read_wait_seconds + r.write_wait_seconds, r.seconds),
                     remaining(state));
}

std::string render_summary(const train::TrainSummary& s) {
  std::string text;
  auto line = [&](const char* name, const std::string& value) {
    text += fmt::format("  {:<22}{}\n", name, value);
  };
  if (s.first_step == 0 || s.last_step < s.first_step) {
    return fmt::format("{} is trained to step {} already; nothing was left to do.\n", s.run_dir, s.last_step);
  }
  const auto steps = static_cast<double>(s.last_step - s.first_step + 1);
  if (s.stopped) {
    text += fmt::format("Stopped at step {} of {}. The same command goes on from there.\n", s.last_step,
                        s.total_steps);
  } else {
    text += fmt::format("Trained to step {} of {}.\n", s.last_step, s.total_steps);
  }
  line("model",
       fmt::format("{}, {} parameters", printable(s.model), format_count(static_cast<double>(s.parameters))));
  line("state", fmt::format("{} of parameters and optimizer state", format_size(s.state_bytes)));
  line("memory budget", fmt::format("{}, {:.0f}% of the state", format_size(s.memory_bytes),
                                    s.state_bytes == 0 ? 0.0
                                                       : 100 * static_cast<double>(s.memory_bytes) /
                                                             static_cast<double>(s.state_bytes)));
  line("peak memory", fmt::format("{} of the whole process", format_size(s.peak_rss_bytes)));
  line("loss", fmt::format("{:.4f} at step {}, {:.4f} at step {}", s.first_loss, s.first_step, s.last_loss,
                           s.last_step));
  if (s.skipped_steps > 0) {
    line("skipped updates",
         fmt::format("{}, of steps whose loss or gradient was not finite", s.skipped_steps));
  }
  line("speed",
       fmt::format("{} {} a second, {} in all",
                   format_count(s.seconds > 0 ? std::round(static_cast<double>(s.tokens) / s.seconds) : 0),
                   s.rows, format_duration(s.seconds)));
  if (s.checkpoints.count > 0) {
    line("checkpoints",
         fmt::format("{}, {} in {}; {} read for them", s.checkpoints.count,
                     format_size(s.checkpoints.content_bytes), format_size(s.checkpoints.stored_bytes),
                     format_size(s.checkpoints.read_bytes)));
  }
  line("read from disk",
       fmt::format("{} a step",
                   format_size(static_cast<uint64_t>(static_cast<double>(s.read_bytes) / steps))));
  line("written to disk",
       fmt::format("{} a step",
                   format_size(static_cast<uint64_t>(static_cast<double>(s.written_bytes) / steps))));
  line("waiting for the disk",
       fmt::format("{:.0f}% of the time ({})",
                   100 * wait_share(s.read_wait_seconds + s.write_wait_seconds, s.seconds), printable(s.io)));
  return text;
}

std::string summary_json(const train::TrainSummary& s) {
  nlohmann::ordered_json json;
  json["summary"] = true;
  json["run"] = s.run_dir;
  json["model"] = s.model;
  json["io"] = s.io;
  json["parameters"] = s.parameters;
  json["state_bytes"] = s.state_bytes;
  json["memory_bytes"] = s.memory_bytes;
  json["peak_rss_bytes"] = s.peak_rss_bytes;
  json["first_step"] = s.first_step;
  json["last_step"] = s.last_step;
  json["total_steps"] = s.total_steps;
  json["first_loss"] = s.first_loss;
  json["last_loss"] = s.last_loss;
  json["tokens"] = s.tokens;
  json["seconds"] = s.seconds;
  json["tokens_per_second"] = s.seconds > 0 ? static_cast<double>(s.tokens) / s.seconds : 0;
  json["read_bytes"] = s.read_bytes;
  json["written_bytes"] = s.written_bytes;
  json["read_wait_seconds"] = s.read_wait_seconds;
  json["write_wait_seconds"] = s.write_wait_seconds;
  json["skipped_steps"] = s.skipped_steps;
  json["stopped"] = s.stopped;
  if (s.checkpoints.count > 0) {
    json["checkpoints"] = s.checkpoints.count;
    json["checkpoint_content_bytes"] = s.checkpoints.content_bytes;
    json["checkpoint_stored_bytes"] = s.checkpoints.stored_bytes;
    json["checkpoint_read_bytes"] = s.checkpoints.read_bytes;
    json["checkpoint_compress_seconds"] = s.checkpoints.compress_seconds;
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void Progress::narrate(const std::string& line) {
  if (options_.quiet) return;
  clear();
  std::fprintf(options_.err, "%s\n", printable(line, 2000).c_str());
  redraw(false);
}

void Progress::working(const std::string& phase, double fraction) {
  const auto now = std::chrono::steady_clock::now();
  if (phase != state_.phase) phase_start_ = last_plain_ = now;
  state_.phase = fraction < 1 ? phase : "";
  state_.fraction = fraction;
  state_.phase_seconds = std::chrono::duration<double>(now - phase_start_).count();
  if (fraction >= 1) return clear();
  redraw(false);
  if (options_.quiet || options_.style.is_terminal || now - last_plain_ < options_.plain_every) return;
  last_plain_ = now;
  std::fprintf(options_.err, "%s\n", render_phase(state_).c_str());
  std::fflush(options_.err);
}

void Progress::step_done(const train::StepReport& report) {
  if (state_.session_steps == 0) state_.first_step = report.step;
  state_.phase.clear();
  state_.last = report;
  state_.session_steps += 1;
  state_.session_tokens += report.tokens;
  state_.session_seconds += report.seconds;
  state_.wait_seconds += report.read_wait_seconds + report.write_wait_seconds;
  if (options_.json) print_result(train::metrics_line(report) + "\n");
  if (options_.quiet) return;
  if (options_.style.is_terminal) {
    redraw(report.step == state_.total_steps);
  } else if (!options_.json) {
    std::fprintf(options_.err, "%s\n", render_step(state_).c_str());
    std::fflush(options_.err);
  }
}

void Progress::evaluated(const train::EvalSummary& summary) {
  if (options_.json) {
    nlohmann::ordered_json json;
    json["evaluation"] = true;
    json["step"] = summary.step;
    add_eval_fields(summary, json);
    print_result(json.dump() + "\n");
  }
  narrate(fmt::format("evaluation after step {}: {}", summary.step, eval_line(summary)));
}

void Progress::clear() {
  if (!drawn_) return;
  std::fputs("\r\x1b[K", options_.err);
  std::fflush(options_.err);
  drawn_ = false;
}

void Progress::redraw(bool now) {
  if (options_.quiet || !options_.style.is_terminal) return;
  if (state_.phase.empty() && state_.session_steps == 0) return;
  const auto time = std::chrono::steady_clock::now();
  if (!now && time - last_draw_ < kRedrawEvery) return;
  last_draw_ = time;
  std::fprintf(options_.err, "\r%s\x1b[K", render_status(state_, options_.style).c_str());
  std::fflush(options_.err);
  drawn_ = true;
}

void Progress::print_result(const std::string& text) {
  if (output_error_ != 0) return;
  clear();
  errno = 0;
  if (std::fputs(text.c_str(), options_.out) >= 0 && std::fflush(options_.out) == 0) return;
  output_error_ = errno == 0 ? EIO : errno;
  stop_requested_ = 1;
}

void Progress::finish(const std::string& result) {
  print_result(result);
  if (output_error_ == 0) return;
  throw Error(
      ErrorKind::kFailed, fmt::format("cannot write to standard output: {}", system_text(output_error_)),
      "what was done is kept; start the same command again, with an output that takes what is written");
}

}  // namespace headrace::tools

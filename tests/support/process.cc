#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>

#include "storage/error.h"

namespace headrace::testing {
namespace {

using Clock = std::chrono::steady_clock;

// In the child: never returns.
[[noreturn]] void become(const std::string& program, const ProcessOptions& options, int out, int err) {
  std::vector<char*> arguments{const_cast<char*>(program.c_str())};
  for (const std::string& argument : options.arguments)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
  if (!options.directory.empty() && ::chdir(options.directory.c_str()) != 0) ::_exit(125);
  for (const auto& [limit, value] : options.limits) {
    rlimit both{};
    ::getrlimit(static_cast<__rlimit_resource>(limit), &both);
    both.rlim_cur = value;
    if (::setrlimit(static_cast<__rlimit_resource>(limit), &both) != 0) ::_exit(125);
  }
  const int in = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (!options.standard_output.empty()) out = ::open(options.standard_output.c_str(), O_WRONLY | O_CLOEXEC);
  if (in < 0 || out < 0) ::_exit(125);
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(err, STDERR_FILENO);
  if (options.prepare) options.prepare();
  ::execv(program.c_str(), arguments.data());
  ::_exit(126);
}

void drain(int& descriptor, std::string& text) {
  std::array<char, 4096> part{};
  const ssize_t got = ::read(descriptor, part.data(), part.size());
  if (got > 0) {
    text.append(part.data(), static_cast<size_t>(got));
  } else {
    ::close(descriptor);
    descriptor = -1;
  }
}

// AddressSanitizer says once that it knows little of stack switching, which suspended tasks are; no option
// keeps it from that.
void drop_sanitizer_note(std::string& text) {
  const size_t found = text.find("WARNING: ASan doesn't fully support makecontext");
  if (found == std::string::npos) return;
  const size_t before = text.rfind('\n', found);
  const size_t line = before == std::string::npos ? 0 : before + 1;
  text.erase(line, text.find('\n', found) + 1 - line);
}

}  // namespace

Process::Process(const std::string& program, const ProcessOptions& options) : start_(Clock::now()) {
  std::array<int, 2> out{}, err{};
  HEADRACE_CHECK(::pipe2(out.data(), O_CLOEXEC) == 0 && ::pipe2(err.data(), O_CLOEXEC) == 0);
  id_ = ::fork();
  HEADRACE_CHECK(id_ >= 0, "cannot fork");
  if (id_ == 0) become(program, options, out[1], err[1]);
  ::close(out[1]);
  ::close(err[1]);
  out_ = out[0];
  err_ = err[0];
}

Process::~Process() {
  if (!ended()) {
    send(SIGKILL);
    int status = 0;
    ::waitpid(id_, &status, 0);
  }
  if (out_ >= 0) ::close(out_);
  if (err_ >= 0) ::close(err_);
}

void Process::send(int signal_number) const {
  if (!status_) ::kill(id_, signal_number);
}

bool Process::ended() {
  if (!status_) {
    int status = 0;
    rusage usage{};
    if (::wait4(id_, &status, WNOHANG, &usage) == id_) {
      status_ = status;
      result_.peak_rss_bytes = static_cast<uint64_t>(usage.ru_maxrss) * 1024;
    }
  }
  return status_.has_value();
}

void Process::read_some(std::chrono::milliseconds time) {
  std::array<pollfd, 2> polled{{{out_, POLLIN, 0}, {err_, POLLIN, 0}}};  // negative descriptors are skipped
  if (::poll(polled.data(), polled.size(), static_cast<int>(time.count())) <= 0) return;
  if (polled[0].revents != 0) drain(out_, result_.out);
  if (polled[1].revents != 0) drain(err_, result_.err);
}

bool Process::wait_for(std::chrono::milliseconds time) {
  const auto end = Clock::now() + time;
  while (!ended() && Clock::now() < end) read_some(std::chrono::milliseconds(5));
  return ended();
}

bool Process::wait_for_text(const std::string& text, std::chrono::milliseconds time) {
  const auto end = Clock::now() + time;
  while (true) {
    if ((result_.out + result_.err).find(text) != std::string::npos) return true;
    if (Clock::now() >= end || (out_ < 0 && err_ < 0)) return false;
    read_some(std::chrono::milliseconds(5));
  }
}

ProcessResult Process::finish(std::chrono::milliseconds time) {
  if (!wait_for(time)) {
    send(SIGKILL);
    wait_for(std::chrono::minutes(1));
  }
  result_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
  while (out_ >= 0 || err_ >= 0) read_some(std::chrono::milliseconds(100));
  HEADRACE_CHECK(status_.has_value(), "the process cannot be waited for");
  if (WIFEXITED(*status_)) result_.exit_status = WEXITSTATUS(*status_);
  if (WIFSIGNALED(*status_)) result_.signal = WTERMSIG(*status_);
  drop_sanitizer_note(result_.err);
  return result_;
}

ProcessResult run_headrace(const std::string& binary, const std::vector<std::string>& arguments,
                           const std::string& directory) {
  ProcessOptions options;
  options.arguments = arguments;
  options.directory = directory;
  return Process(binary, options).finish();
}

}  // namespace headrace::testing

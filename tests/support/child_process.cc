#include "tests/support/child_process.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <exception>

#include "storage/error.h"

namespace headrace::testing {

namespace {

void write_all(int descriptor, const std::string& text) {
  for (size_t done = 0; done < text.size();) {
    const ssize_t moved = ::write(descriptor, text.data() + done, text.size() - done);
    if (moved <= 0) return;
    done += static_cast<size_t>(moved);
  }
}

[[noreturn]] void be_the_child(const std::function<std::string()>& body, int output) {
  int status = 0;
  try {
    write_all(output, body());
  } catch (const std::exception& error) {
    write_all(output, std::string("threw: ") + error.what());
    status = 1;
  }
  ::_exit(status);
}

}  // namespace

ChildResult run_in_child(const std::function<std::string()>& body) {
  std::array<int, 2> ends{};
  HEADRACE_CHECK(::pipe(ends.data()) == 0, system_text(errno));
  std::fflush(nullptr);
  const pid_t child = ::fork();
  HEADRACE_CHECK(child >= 0, system_text(errno));
  if (child == 0) {
    ::close(ends[0]);
    be_the_child(body, ends[1]);
  }
  ::close(ends[1]);
  ChildResult result;
  std::array<char, 4096> buffer{};
  for (ssize_t moved = 0; (moved = ::read(ends[0], buffer.data(), buffer.size())) > 0;)
    result.output.append(buffer.data(), static_cast<size_t>(moved));
  ::close(ends[0]);
  int status = 0;
  HEADRACE_CHECK(::waitpid(child, &status, 0) == child, system_text(errno));
  if (WIFEXITED(status)) result.exit_status = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) result.signal = WTERMSIG(status);
  return result;
}

void forbid_system_call(int system_call_number, int error_number) {
  const auto number = static_cast<uint32_t>(system_call_number);
  std::array<sock_filter, 4> code = {{
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (static_cast<uint32_t>(error_number) & SECCOMP_RET_DATA)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  }};
  const sock_fprog program = {static_cast<unsigned short>(code.size()), code.data()};
  HEADRACE_CHECK(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, system_text(errno));
  HEADRACE_CHECK(::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, system_text(errno));
}

}  // namespace headrace::testing

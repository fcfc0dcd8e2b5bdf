// Where the system refuses what headrace would rather have, a training says so in a line, goes on without it,
// and computes the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "build_paths.h"
#include "storage/error.h"
#include "tests/support/child_process.h"
#include "tests/support/loop_mount.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

using testing::forbid_system_call;
using ::testing::HasSubstr;
using testing::LoopMount;
using testing::Process;
using testing::ProcessOptions;
using testing::ProcessResult;
using testing::ToolRun;

constexpr uint64_t kSteps = 3;
constexpr uid_t kOrdinaryUser = 65534;
constexpr uint64_t kMemlock = 64 * 1024;

class Fallback : public ::testing::Test {
 protected:
  // Trains RUN, whose name may be a path, in a child that was prepared.
  ProcessResult train(const std::string& run, const std::function<void()>& prepare) const {
    ProcessOptions options;
    options.arguments = tool_.train_arguments(run, kSteps, kOptions);
    options.directory = tool_.directory();
    options.prepare = prepare;
    return Process(tool_.binary(), options).finish();
  }

  void expect_same(const std::string& run) {
    ASSERT_EQ(tool_.train("whole", kSteps, kOptions).exit_status, 0);
    EXPECT_EQ(tool_.digest(run), tool_.digest("whole"));
    EXPECT_EQ(tool_.digest(run).size(), 33u);
  }

  static size_t lines_with(const std::string& text, const std::string& words) {
    size_t count = 0;
    for (size_t at = text.find(words); at != std::string::npos; at = text.find(words, at + 1)) count++;
    return count;
  }

  const std::vector<std::string> kOptions{"--memory", "64MiB", "--batch", "2", "--seq", "16"};
  const ToolRun tool_{
      HEADRACE_BINARY,
      R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 256, "n_positions": 32})",
      20000};
};

TEST_F(Fallback, TakesThreadsWhereIoUringIsRefused) {
  for (const int error_number : {ENOSYS, EPERM}) {
    const std::string run = "refused" + std::to_string(error_number);
    const ProcessResult result = train(run, [&] { forbid_system_call(SYS_io_uring_setup, error_number); });
    ASSERT_EQ(result.exit_status, 0) << result.err;
    EXPECT_THAT(result.err,
                HasSubstr("disk access: threads (8; io_uring refused: " + system_text(error_number) + ")"));
    EXPECT_EQ(lines_with(result.err, "io_uring"), 1u) << result.err;
    expect_same(run);
  }
}

TEST_F(Fallback, RegistersNoMemoryWhereLittleMayBeLocked) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become an ordinary user";
  for (const auto& entry : std::filesystem::recursive_directory_iterator(tool_.directory()))
    ASSERT_EQ(::chown(entry.path().c_str(), kOrdinaryUser, kOrdinaryUser), 0);
  ASSERT_EQ(::chown(tool_.directory().c_str(), kOrdinaryUser, kOrdinaryUser), 0);
  const ProcessResult result = train("run", [] {
    const rlimit limit{kMemlock, kMemlock};
    HEADRACE_CHECK(::setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    HEADRACE_CHECK(::setresgid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0);
    HEADRACE_CHECK(::setresuid(kOrdinaryUser, kOrdinaryUser, kOrdinaryUser) == 0);
  });
  ASSERT_EQ(result.exit_status, 0) << result.err;
  if (result.err.find("io_uring refused") != std::string::npos) GTEST_SKIP() << result.err;
  EXPECT_THAT(result.err, HasSubstr("disk access: io_uring, plain buffers (registering "));
  EXPECT_THAT(result.err, HasSubstr(" refused: Cannot allocate memory"));
  EXPECT_EQ(lines_with(result.err, "io_uring"), 1u) << result.err;
  expect_same("run");
}

TEST_F(Fallback, PassesThroughThePageCacheWhereThereIsNoDirectIo) {
  const LoopMount journal(64, "data=journal");
  if (!journal.why_not().empty()) GTEST_SKIP() << journal.why_not();
  const std::string run = journal.path() + "/run";
  const ProcessResult result = train(run, {});
  ASSERT_EQ(result.exit_status, 0) << result.err;
  EXPECT_THAT(result.err,
              HasSubstr(run + "/shards/000/data.mdb passes through the page cache: the file system has "
                              "no direct I/O for this file\n"));
  EXPECT_EQ(lines_with(result.err, "page cache"), 1u) << result.err;
  expect_same(run);
}

}  // namespace
}  // namespace headrace

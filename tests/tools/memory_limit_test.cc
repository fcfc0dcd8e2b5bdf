#include "tools/memory_limit.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::tools {
namespace {

class MemoryLimit : public ::testing::Test {
 protected:
  void file(const std::string& path, const std::string& content) {
    const std::string full = root_.path() + path;
    std::filesystem::create_directories(std::filesystem::path(full).parent_path());
    testing::write_file(full, content);
  }
  void machine(uint64_t kib) {
    file("/proc/meminfo", "MemTotal: 99999999 kB\nMemAvailable:   " + std::to_string(kib) + " kB\n");
  }
  AvailableMemory available() { return available_memory(root_.path()); }

  static constexpr const char* kUnifiedMount =
      "30 23 0:26 / /cg rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
  testing::TemporaryDirectory root_;
};

TEST_F(MemoryLimit, IsTheMachinesFreeMemoryWithoutCgroups) {
  machine(1000);
  EXPECT_EQ(available().bytes, 1000u * 1024);
  EXPECT_EQ(available().limited_by, "the machine's free memory");
}

TEST_F(MemoryLimit, SaysThatTheSystemSaysNothing) { EXPECT_THROW(available(), Error); }

TEST_F(MemoryLimit, TakesTheTightestAncestorOfVersion2) {
  machine(1 << 20);
  file("/proc/self/mountinfo", kUnifiedMount);
  file("/proc/self/cgroup", "0::/user/job\n");
  file("/cg/user/job/memory.max", "max\n");
  file("/cg/user/memory.max", "500000\n");
  file("/cg/user/memory.current", "120000\n");
  file("/cg/user/memory.stat", "anon 1\ninactive_file 20000\nactive_file 7\n");
  EXPECT_EQ(available().bytes, 400000u);
  EXPECT_EQ(available().limited_by, "the cgroup /user");
}

TEST_F(MemoryLimit, TakesVersion1UnderAnyMountPoint) {
  machine(1 << 20);
  file("/proc/self/mountinfo",
       "31 23 0:28 / /sys rw - tmpfs tmpfs rw\n"
       "32 31 0:29 / /sys/cpu rw - cgroup cgroup rw,cpu\n"
       "35 31 0:32 / /sys/memory rw - cgroup cgroup rw,memory\n"
       "41 31 0:38 / /sys/unified rw - cgroup2 cgroup2 rw\n");
  file("/proc/self/cgroup", "4:cpu:/other\n3:memory:/job\n0::/\n");
  file("/sys/memory/job/memory.limit_in_bytes", "300000\n");
  file("/sys/memory/job/memory.usage_in_bytes", "50000\n");
  file("/sys/memory/job/memory.stat", "total_inactive_file 50000\n");
  file("/sys/memory/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(available().bytes, 300000u);
  EXPECT_EQ(available().limited_by, "the cgroup /job");
}

TEST_F(MemoryLimit, FindsItsGroupInsideAContainer) {
  machine(1 << 20);
  file("/proc/self/mountinfo", "35 31 0:32 /docker/abc /sys/memory ro - cgroup cgroup rw,memory\n");
  file("/proc/self/cgroup", "3:memory:/docker/abc\n");
  file("/sys/memory/memory.limit_in_bytes", "200000\n");
  EXPECT_EQ(available().bytes, 200000u);
}

TEST_F(MemoryLimit, IsNothingWhenTheGroupIsFull) {
  machine(1 << 20);
  file("/proc/self/mountinfo", kUnifiedMount);
  file("/proc/self/cgroup", "0::/\n");
  file("/cg/memory.max", "1000\n");
  file("/cg/memory.current", "2000\n");
  EXPECT_EQ(available().bytes, 0u);
}

TEST_F(MemoryLimit, SurvivesDamagedFiles) {
  machine(1000);
  file("/proc/self/mountinfo", "garbage\n - \n30 23 - cgroup2\n" + std::string(kUnifiedMount));
  file("/proc/self/cgroup", "\n::\n0\n0::relative\n");
  file("/cg/memory.max", "-1\n");
  EXPECT_EQ(available().bytes, 1000u * 1024);
}

TEST(MemoryLimitOfThisMachine, IsSomething) { EXPECT_GT(available_memory().bytes, 0u); }

}  // namespace
}  // namespace headrace::tools

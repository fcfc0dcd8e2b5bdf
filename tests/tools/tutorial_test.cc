// The tutorials' commands work as they stand there: every block of a tutorial that is marked as sh is run by
// bash, all of a page in one directory, with the built program as `headrace`.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "build_paths.h"
#include "tests/support/process.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using testing::Process;
using testing::ProcessResult;
using testing::TemporaryDirectory;

std::vector<std::string> shell_blocks(const std::string& page) {
  std::vector<std::string> blocks;
  std::istringstream lines(page);
  bool inside = false;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("```")) {
      inside = line == "```sh";
      if (inside) blocks.emplace_back();
    } else if (inside) {
      blocks.back() += line + "\n";
    }
  }
  return blocks;
}

class Tutorials : public ::testing::TestWithParam<std::string> {};

TEST_P(Tutorials, WorkAsWritten) {
  const std::string page = testing::read_file(std::string(HEADRACE_SOURCE_DIR "/docs/") + GetParam());
  const std::vector<std::string> blocks = shell_blocks(page);
  ASSERT_FALSE(blocks.empty());
  const TemporaryDirectory directory;
  const std::string program = std::filesystem::path(HEADRACE_BINARY).parent_path();
  const char* path = std::getenv("PATH");
  for (const std::string& block : blocks) {
    Process bash("/bin/bash", {.arguments = {"-euo", "pipefail", "-c", block},
                               .environment = {{"PATH", program + ":" + (path ? path : "/usr/bin:/bin")}},
                               .directory = directory.path()});
    const ProcessResult result = bash.finish();
    ASSERT_EQ(result.exit_status, 0) << block << result.out << result.err;
  }
}

INSTANTIATE_TEST_SUITE_P(Page, Tutorials,
                         ::testing::Values("tutorial-tables.md", "tutorial-graphs.md",
                                           "tutorial-recurrent.md", "compression.md"),
                         [](const auto& each) {
                           std::string name;
                           for (const char c : each.param)
                             name += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
                           return name;
                         });

}  // namespace
}  // namespace headrace

// The sources keep what the compiler does not check.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "build_paths.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

constexpr size_t kLongestFile = 400;  // lines

struct Source {
  std::string path;  // from the root
  std::vector<std::string> lines;
};

std::vector<Source> sources() {
  std::vector<Source> result;
  const std::filesystem::path root = HEADRACE_SOURCE_DIR;
  for (const char* room : {"storage", "engine", "models", "tools", "tests"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / room)) {
      const std::string extension = entry.path().extension();
      if (extension != ".h" && extension != ".cc") continue;
      Source source{std::filesystem::relative(entry.path(), root), {}};
      std::istringstream stream(testing::read_file(entry.path()));
      for (std::string line; std::getline(stream, line);) source.lines.push_back(line);
      result.push_back(std::move(source));
    }
  }
  return result;
}

TEST(Style, HeadersAreGuardedByPragmaOnce) {
  for (const Source& source : sources()) {
    // Highway compiles a file that ends in -inl.h once for each target.
    if (!source.path.ends_with(".h") || source.path.ends_with("-inl.h")) continue;
    EXPECT_NE(std::find(source.lines.begin(), source.lines.end(), "#pragma once"), source.lines.end())
        << source.path;
  }
}

TEST(Style, FilesHaveOneJob) {
  for (const Source& source : sources()) EXPECT_LE(source.lines.size(), kLongestFile) << source.path;
}

TEST(Style, NothingIsLeftToDoInComments) {
  const std::vector<std::string> marks{std::string("TO") + "DO", std::string("FIX") + "ME",
                                       std::string("XX") + "X:"};
  for (const Source& source : sources()) {
    for (size_t i = 0; i < source.lines.size(); ++i) {
      for (const std::string& mark : marks) {
        EXPECT_EQ(source.lines[i].find(mark), std::string::npos) << source.path << ":" << i + 1;
      }
    }
  }
}

TEST(Style, ThirdPartyHeadersAreIncludedWhereTheyAreWrapped) {
  // Beginning of the header's name -> beginnings of the paths of the files that may include it. Tests may
  // look.
  const std::map<std::string, std::vector<std::string>> wrappers{
      {"<lmdb.h", {"storage/"}},
      {"<liburing", {"storage/uring_io"}},
      {"<xxhash", {"storage/xxh3.h"}},
      {"<zstd", {"storage/codec.cc"}},
      {"<zlib", {"storage/input_stream.cc"}},
      {"<hwy/", {"engine/math/"}},
      {"<oneapi/", {"engine/", "models/"}},
      {"<tbb/", {}},
      {"<CLI/", {"tools/command_line.cc"}},
      {"<toml++/", {"tools/config_file.cc"}},
  };
  for (const Source& source : sources()) {
    if (source.path.starts_with("tests/")) continue;
    for (const std::string& line : source.lines) {
      for (const auto& [header, allowed] : wrappers) {
        if (!line.starts_with("#include " + header)) continue;
        const bool wrapped = std::any_of(allowed.begin(), allowed.end(), [&](const std::string& path) {
          return source.path.starts_with(path);
        });
        EXPECT_TRUE(wrapped) << source.path << ": " << line;
      }
    }
  }
}

TEST(Style, RoomsUseOnlyTheRoomsBelow) {
  const std::map<std::string, std::set<std::string>> above{
      {"storage", {"engine", "models", "tools", "tests"}},
      {"engine", {"models", "tools", "tests"}},
      {"models", {"tools", "tests"}},
      {"tools", {"tests"}}};
  for (const Source& source : sources()) {
    const auto found = above.find(source.path.substr(0, source.path.find('/')));
    if (found == above.end()) continue;
    for (const std::string& line : source.lines) {
      for (const std::string& room : found->second) {
        EXPECT_FALSE(line.starts_with("#include \"" + room + "/")) << source.path << ": " << line;
      }
    }
  }
}

}  // namespace
}  // namespace headrace

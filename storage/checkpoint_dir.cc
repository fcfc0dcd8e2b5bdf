#include "storage/checkpoint_dir.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <system_error>

#include "storage/checkpoint_format.h"
#include "storage/checkpoint_reader.h"
#include "storage/error.h"
#include "storage/file.h"
#include "storage/run_dir.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-", kWeights = "-weights";
constexpr std::string_view kUnfinished = ".unfinished", kRemoved = ".removed";

std::string checkpoints_of(const std::string& run_dir) { return run_dir + "/checkpoints"; }

// The step in "step-000400" or "step-000400-weights"; nothing for another name.
std::optional<uint64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  if (name.ends_with(kWeights)) name.remove_suffix(kWeights.size());
  return parse_count(name);
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(directory, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename().string());
  if (error && error != std::errc::no_such_file_or_directory)
    throw Error(ErrorKind::kFailed, fmt::format("cannot list {}: {}", directory, error.message()));
  return names;
}

bool is_of_a_checkpoint(const std::string& name) {
  const std::string_view digits = std::string_view(name).substr(std::min<size_t>(name.size(), 5));
  return name == "manifest.json" || (name.starts_with("pack-") && digits.size() >= 5 &&
                                     digits.find_first_not_of("0123456789") == std::string_view::npos);
}

void remove_files(const std::string& directory) {
  for (const std::string& name : names_in(directory)) {
    if (is_of_a_checkpoint(name) && ::unlink((directory + "/" + name).c_str()) == 0) continue;
    throw Error(ErrorKind::kFailed,
                fmt::format("{} is not removed: it holds '{}'", directory, printable(name, 60)),
                "Remove it by hand if it is no longer needed");
  }
  if (::rmdir(directory.c_str()) != 0 && errno != ENOENT)
    throw Error(ErrorKind::kFailed, fmt::format("cannot remove {}: {}", directory, system_text(errno)));
}

}  // namespace

std::string checkpoint_directory(const std::string& run_dir, uint64_t step, bool weights_only) {
  return fmt::format("{}/{}{:06}{}", checkpoints_of(run_dir), kPrefix, step, weights_only ? kWeights : "");
}

std::string unfinished_directory(const std::string& checkpoint) {
  return checkpoint + std::string(kUnfinished);
}

std::string manifest_path(const std::string& checkpoint) { return checkpoint + "/manifest.json"; }

std::vector<std::string> list_checkpoints(const std::string& run_dir) {
  std::vector<std::pair<uint64_t, std::string>> found;
  for (const std::string& name : names_in(checkpoints_of(run_dir))) {
    if (const std::optional<uint64_t> step = step_of(name)) found.emplace_back(*step, name);
  }
  std::sort(found.begin(), found.end());
  std::vector<std::string> paths;
  for (const auto& [step, name] : found) paths.push_back(checkpoints_of(run_dir) + "/" + name);
  return paths;
}

void remove_leftovers(const std::string& run_dir) {
  for (const std::string& name : names_in(checkpoints_of(run_dir))) {
    for (const std::string_view suffix : {kUnfinished, kRemoved}) {
      if (name.ends_with(suffix) && step_of(name.substr(0, name.size() - suffix.size())))
        remove_files(checkpoints_of(run_dir) + "/" + name);
    }
  }
}

void remove_checkpoint(const std::string& checkpoint) {
  std::string directory = checkpoint;
  if (!directory.ends_with(kUnfinished)) {
    directory += kRemoved;
    if (::rename(checkpoint.c_str(), directory.c_str()) != 0) {
      if (errno == ENOENT) return;
      throw Error(ErrorKind::kFailed, fmt::format("cannot rename {}: {}", checkpoint, system_text(errno)));
    }
    sync_directory(directory + "/..");  // before its files go: what has its final name is whole
  }
  if (file_exists(directory)) remove_files(directory);
}

void keep_newest(const std::string& run_dir, uint64_t keep) {
  std::vector<std::string> automatic;
  for (const std::string& path : list_checkpoints(run_dir)) {
    try {
      if (read_manifest(path).automatic) automatic.push_back(path);
    } catch (const Error&) {
      // One that cannot be read is not ours to judge.
    }
  }
  for (size_t i = 0; i + keep < automatic.size(); i++) remove_checkpoint(automatic[i]);
}

}  // namespace headrace::storage

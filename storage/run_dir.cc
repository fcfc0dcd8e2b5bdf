#include "storage/run_dir.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "storage/drive_profile.h"
#include "storage/error.h"
#include "storage/json.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;

constexpr const char* kMarker = "/creating.json";
constexpr const char* kMarkerKind = "unfinished headrace run";
constexpr size_t kRunIdDigits = 32;
constexpr uint64_t kMostMarkerBytes = uint64_t{1} << 20;

[[noreturn]] void fail(const std::string& what, const std::string& path, int error_number) {
  throw Error(ErrorKind::kFailed, fmt::format("cannot {} {}: {}", what, path, system_text(error_number)));
}

std::string canonical(const std::string& path) {
  std::error_code error;
  const fs::path result = fs::weakly_canonical(fs::absolute(path, error), error);
  if (error) fail("resolve", path, error.value());
  return result.string();
}

void remove_file(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT && errno != ENOTDIR) fail("remove", path, errno);
}

void remove_directory(const std::string& path) {
  if (::rmdir(path.c_str()) == 0) return;
  const int error_number = errno;
  // A read-only file system refuses before it looks, also what is not there.
  if (file_exists(path)) fail("remove", path, error_number);
}

// A directory that holds an LMDB environment and nothing else.
void remove_environment(const std::string& directory) {
  for (const char* name : {"/data.mdb", "/data.mdb-lock", "/lock.mdb"}) remove_file(directory + name);
  remove_directory(directory);
}

// Empty where it is too long for a marker.
std::string read_marker_text(const std::string& path) {
  const File file = File::open(path, OpenMode::kRead);
  if (file.size() > kMostMarkerBytes) return {};
  std::string text(file.size(), '\0');
  file.pread_all(std::as_writable_bytes(std::span(text)), 0);
  return text;
}

struct Marker {
  std::string run_id;
  std::vector<std::string> shards;
};

// Whether creation made this directory, by its name: a damaged marker must not lead elsewhere.
bool is_of_creation(const std::string& directory, const std::string& run_id) {
  const fs::path path(directory);
  const std::string name = path.filename().string();
  if (path.parent_path().filename() == "shards") {
    return name.size() >= 3 && name.find_first_not_of("0123456789") == std::string::npos;
  }
  return run_id.size() == kRunIdDigits && name.starts_with(run_id + "-");
}

Marker read_marker(const std::string& run_dir) {
  const std::string path = run_dir + kMarker;
  Marker marker;
  bool ours = false;
  try {
    const nlohmann::json json = parse_json<nlohmann::json>(read_marker_text(path));
    ours = json.at("kind") == kMarkerKind;
    json.at("run_id").get_to(marker.run_id);
    for (const nlohmann::json& shard : json.at("shards")) {
      marker.shards.push_back(path_from_run(run_dir, shard.get<std::string>()));
      ours = ours && is_of_creation(marker.shards.back(), marker.run_id);
    }
  } catch (const nlohmann::json::exception&) {
    ours = false;
  }
  if (!ours) {
    throw Error(ErrorKind::kUsage, fmt::format("{} is not what a creation of a run writes", path),
                "Take another directory, or remove what is there");
  }
  return marker;
}

}  // namespace

std::string catalog_directory(const std::string& run_dir) { return run_dir + "/catalog"; }
std::string new_catalog_directory(const std::string& run_dir) { return run_dir + "/catalog.new"; }
std::string metrics_path(const std::string& run_dir) { return run_dir + "/metrics.jsonl"; }

std::string shard_directory_name(const std::string& run_id, uint32_t shard) {
  return fmt::format("{}-{:03}", run_id, shard);
}

std::vector<std::string> new_shard_directories(const std::string& run_dir, const std::string& run_id,
                                               const std::vector<std::string>& shard_dirs) {
  if (shard_dirs.empty()) return {run_dir + "/shards/000"};
  std::vector<std::string> directories;
  for (const std::string& parent : shard_dirs) {
    const auto shard = static_cast<uint32_t>(directories.size());
    directories.push_back(parent + "/" + shard_directory_name(run_id, shard));
  }
  return directories;
}

void require_shard_directories(const std::vector<std::string>& shard_dirs) {
  for (const std::string& directory : shard_dirs) {
    if (file_exists(directory)) continue;
    throw Error(ErrorKind::kUsage, fmt::format("there is no directory {} for a shard", directory),
                "Make it first (is its drive mounted?)");
  }
}

std::string path_in_run(const std::string& run_dir, const std::string& path) {
  const std::string run = canonical(run_dir) + "/", absolute = canonical(path);
  return absolute.starts_with(run) ? absolute.substr(run.size()) : absolute;
}

std::string path_from_run(const std::string& run_dir, const std::string& recorded) {
  return recorded.starts_with('/') ? recorded : run_dir + "/" + recorded;
}

std::string new_run_id() {
  std::array<unsigned char, kRunIdDigits / 2> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    fail("get", "random numbers", errno);
  }
  std::string digits;
  for (unsigned char byte : bytes) {
    digits += "0123456789abcdef"[byte >> 4];
    digits += "0123456789abcdef"[byte & 15];
  }
  return digits;
}

File lock_run(const std::string& run_dir) {
  File directory(::open(run_dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), run_dir);
  if (!directory.is_open()) fail("open directory", run_dir, errno);
  while (::flock(directory.descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) fail("lock", run_dir, errno);
    throw Error(ErrorKind::kRefused, fmt::format("another headrace process is using {}", run_dir),
                "Wait until it has ended, or end it");
  }
  return directory;
}

void make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0755) == 0) return;
  const int error_number = errno;
  struct stat status {};
  if (error_number == EEXIST && ::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) return;
    throw Error(ErrorKind::kRefused, fmt::format("{} is there and is not a directory", path),
                "name another directory");
  }
  throw Error(ErrorKind::kRefused,
              fmt::format("cannot make directory {}: {}", path, system_text(error_number)),
              "name a directory whose parent exists and that you may write to");
}

bool file_exists(const std::string& path) {
  if (::access(path.c_str(), F_OK) == 0) return true;
  if (errno != ENOENT && errno != ENOTDIR) fail("look for", path, errno);
  return false;
}

void write_marker(const std::string& run_dir, const std::string& run_id,
                  const std::vector<std::string>& shards) {
  nlohmann::json json = {{"kind", kMarkerKind}, {"run_id", run_id}, {"shards", nlohmann::json::array()}};
  for (const std::string& shard : shards) json["shards"].push_back(path_in_run(run_dir, shard));
  const std::string path = run_dir + kMarker, temporary = path + ".new";
  std::string text;
  try {
    text = json.dump() + "\n";
  } catch (const nlohmann::json::type_error&) {
    throw Error(ErrorKind::kUsage, "the path of a shard directory is not UTF-8 text");
  }
  remove_file(temporary);
  {
    const File file = File::open(temporary, OpenMode::kCreate);
    file.pwrite_all(std::as_bytes(std::span(text)), 0);
    file.sync();
  }
  if (::rename(temporary.c_str(), path.c_str()) != 0) fail("rename", temporary, errno);
  sync_directory(run_dir);
}

bool remove_marker(const std::string& run_dir) {
  if (!file_exists(run_dir + kMarker)) return false;
  remove_file(run_dir + kMarker);
  sync_directory(run_dir);
  return true;
}

void remove_unfinished(const std::string& run_dir) {
  if (file_exists(catalog_directory(run_dir))) return;  // committed, or not ours
  remove_file(run_dir + kMarker + ".new");
  if (!file_exists(run_dir + kMarker)) return;
  const Marker marker = read_marker(run_dir);
  for (const std::string& shard : marker.shards) remove_environment(shard);
  remove_directory(run_dir + "/shards");
  remove_environment(new_catalog_directory(run_dir));
  sync_directory(run_dir);
  remove_marker(run_dir);
}

void require_empty(const std::string& run_dir) {
  if (file_exists(catalog_directory(run_dir) + "/data.mdb")) {
    throw Error(ErrorKind::kUsage, fmt::format("{} already holds a run", run_dir),
                "Take another directory, or remove that run");
  }
  std::error_code error;
  for (fs::directory_iterator entry(run_dir, error), end; !error && entry != end; entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (name == "lost+found") continue;  // of a fresh file system
    if (name == kProfileName) continue;  // it was measured before
    throw Error(ErrorKind::kUsage, fmt::format("{} is not empty: it holds '{}'", run_dir, name),
                "Take another directory, or remove what is there");
  }
  if (error) fail("list", run_dir, error.value());
}

}  // namespace headrace::storage

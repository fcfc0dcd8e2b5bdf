#include "storage/store_shards.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <exception>
#include <filesystem>
#include <thread>

#include "storage/error.h"
#include "storage/run_dir.h"
#include "storage/space.h"

namespace headrace::storage {
namespace {

constexpr double kLockSeconds = 30;
constexpr const char* kWhereAdvice = "Say with --shard-dir where the run's shards are now, once for each";

// A directory that the user gave may be the shard's own, or hold it.
std::string find_moved(const std::string& run_dir, const CatalogContent& content, size_t shard,
                       const std::vector<std::string>& shard_dirs) {
  const std::string name = shard_directory_name(content.run_id, static_cast<uint32_t>(shard));
  const std::string recorded_name = std::filesystem::path(content.shards[shard].path).filename().string();
  for (const std::string& directory : shard_dirs) {
    for (const std::string& candidate : {directory + "/" + name, directory + "/" + recorded_name}) {
      if (file_exists(candidate + "/data.mdb")) return candidate;
    }
    const std::string own = std::filesystem::path(directory).filename().string();
    if ((own == name || own == recorded_name) && file_exists(directory + "/data.mdb")) return directory;
  }
  if (shard_dirs.size() == content.shards.size() && file_exists(shard_dirs[shard] + "/data.mdb")) {
    return shard_dirs[shard];
  }
  const std::string recorded = path_from_run(run_dir, content.shards[shard].path);
  const bool inside = recorded != content.shards[shard].path;
  if (inside && file_exists(recorded + "/data.mdb")) return recorded;
  throw Error(ErrorKind::kRefused,
              fmt::format("shard {} of {} is in none of the given directories", shard, run_dir),
              kWhereAdvice);
}

void check_structure(const Shard& shard, const CatalogContent& content, uint32_t number) {
  const auto count = static_cast<uint32_t>(content.shards.size());
  const ShardRecord& record = content.shards[number];
  const uint64_t bytes = shard.payload_file().file.size();
  const auto corrupt = [&](const std::string& why) {
    throw Error(ErrorKind::kCorrupt, fmt::format("shard {} at {}: {}", number, shard.path(), why),
                "Put the run's own shard there, or restore the run from a checkpoint or a copy");
  };
  if (bytes < record.file_bytes) corrupt(fmt::format("it has {} of its {} bytes", bytes, record.file_bytes));
  const ShardStructure found = shard.read_structure({content.run_id, number, count});
  if (found.file_bytes != record.file_bytes || found.hash != record.structure) {
    corrupt("its structure is not the one that was laid out");
  }
  size_t expected = 0;
  for (uint32_t i = 0; i < content.places.size(); i++) {
    if (content.places[i].shard == number) expected += content.layout.block(i).slots;
  }
  if (found.places.size() != expected) corrupt("it holds other blocks than the catalog says");
  for (const PayloadPlace& place : found.places) {
    const bool known = place.block < content.places.size();
    if (!known || content.places[place.block].shard != number ||
        content.places[place.block].offsets[place.slot] != place.offset ||
        content.layout.block(place.block).payload_bytes != place.bytes) {
      corrupt(fmt::format("block {} lies elsewhere than the catalog says", place.block));
    }
  }
}

}  // namespace

HomeRecord home_of(const std::string& run_dir) {
  struct stat status {};
  std::error_code error;
  const std::string path = std::filesystem::canonical(run_dir, error).string();
  if (error || ::stat(run_dir.c_str(), &status) != 0) {
    throw Error(ErrorKind::kFailed,
                fmt::format("cannot look at {}: {}", run_dir, error ? error.message() : system_text(errno)));
  }
  return {path, status.st_dev, status.st_ino};
}

uint32_t drive_number(std::span<const std::string> directories, size_t index) {
  std::vector<uint64_t> devices;
  for (size_t i = 0; i <= index; i++) {
    const uint64_t device = device_of(directories[i]);
    const auto found = std::find(devices.begin(), devices.end(), device);
    if (i == index) return static_cast<uint32_t>(found - devices.begin());
    if (found == devices.end()) devices.push_back(device);
  }
  return 0;
}

void sync_files(BlockIo& io, std::span<const FileIndex> files) {
  std::vector<IoRequest> requests(files.size());
  for (size_t i = 0; i < files.size(); i++) {
    requests[i].kind = IoKind::kSync;
    requests[i].file = files[i];
  }
  transfer_and_wait(io, requests);
}

std::vector<std::string> find_shards(const std::string& run_dir, const CatalogContent& content,
                                     const std::vector<std::string>& shard_dirs) {
  const HomeRecord now = home_of(run_dir);
  const bool at_home =
      now.path == content.home.path || (now.device == content.home.device && now.inode == content.home.inode);
  std::vector<std::string> directories;
  for (size_t i = 0; i < content.shards.size(); i++) {
    if (!shard_dirs.empty()) {
      directories.push_back(find_moved(run_dir, content, i, shard_dirs));
      continue;
    }
    const std::string& recorded = content.shards[i].path;
    const std::string path = path_from_run(run_dir, recorded);
    const bool inside = path != recorded;
    if (!inside && !at_home) {
      throw Error(ErrorKind::kRefused,
                  fmt::format("{} was moved or copied from {}, and its shard {} lay outside, at {}", run_dir,
                              content.home.path, i, path),
                  kWhereAdvice);
    }
    if (!file_exists(path + "/data.mdb")) {
      throw Error(ErrorKind::kRefused, fmt::format("shard {} of {} is not at {}", i, run_dir, path),
                  kWhereAdvice);
    }
    directories.push_back(path);
  }
  return directories;
}

std::vector<Shard> open_shards(const CatalogContent& content, std::span<const std::string> directories) {
  std::vector<Shard> shards;
  for (const std::string& directory : directories) shards.emplace_back(directory, kLockSeconds);
  // A header of every block is read: from all drives at the same time.
  std::vector<std::exception_ptr> errors(shards.size());
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < shards.size(); i++) {
    threads.emplace_back([&, i] {
      try {
        check_structure(shards[i], content, i);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
  return shards;
}

}  // namespace headrace::storage

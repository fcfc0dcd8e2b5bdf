#include "storage/space.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <cerrno>
#include <filesystem>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

std::string existing(const std::string& path) {
  std::error_code error;
  std::filesystem::path place = std::filesystem::absolute(path, error);
  while (!std::filesystem::exists(place, error) && place.has_relative_path()) place = place.parent_path();
  return place.string();
}

uint64_t free_bytes(const std::string& place) {
  struct statvfs status {};
  if (::statvfs(place.c_str(), &status) != 0) {
    throw Error(ErrorKind::kFailed,
                fmt::format("cannot read the free space of {}: {}", place, system_text(errno)));
  }
  return uint64_t{status.f_bavail} * status.f_frsize;
}

}  // namespace

SpaceError::SpaceError(const std::string& directory, uint64_t needed_bytes, const std::string& what,
                       int error_number)
    : Error(ErrorKind::kRefused,
            fmt::format("too little space in {}: {}; {} bytes more are needed for {}, {} are free", directory,
                        system_text(error_number), needed_bytes, what, free_bytes(existing(directory))),
            "Free space there"),
      directory_(directory),
      needed_bytes_(needed_bytes) {}

bool reserve_space(const File& file, uint64_t bytes, const std::string& what) {
  try {
    return file.reserve(bytes);
  } catch (const IoError& error) {
    if (error.kind() != ErrorKind::kRefused) throw;
    struct stat status {};
    const bool known = ::fstat(file.descriptor(), &status) == 0;
    const uint64_t held = known ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
    throw SpaceError(std::filesystem::path(file.path()).parent_path().string(),
                     bytes > held ? bytes - held : bytes, what, error.error_number());
  }
}

uint64_t device_of(const std::string& path) {
  struct stat status {};
  const std::string place = existing(path);
  if (::stat(place.c_str(), &status) != 0) {
    throw Error(ErrorKind::kFailed, fmt::format("cannot look at {}: {}", place, system_text(errno)));
  }
  return status.st_dev;
}

std::vector<SpaceNeeded> space_by_file_system(std::span<const SpaceWanted> wanted) {
  std::vector<SpaceNeeded> needed;
  std::vector<uint64_t> devices;
  for (const SpaceWanted& want : wanted) {
    const uint64_t device = device_of(want.directory);
    size_t i = 0;
    while (i < devices.size() && devices[i] != device) i++;
    if (i == devices.size()) {
      devices.push_back(device);
      needed.push_back({want.directory, 0, free_bytes(existing(want.directory))});
    }
    needed[i].needed_bytes += want.bytes;
  }
  return needed;
}

void require_space(std::span<const SpaceNeeded> needed) {
  for (const SpaceNeeded& space : needed) {
    if (space.needed_bytes <= space.free_bytes) continue;
    throw Error(ErrorKind::kRefused,
                fmt::format("too little space in {}: {} needed, {} free ({} and {} bytes)", space.directory,
                            format_size(space.needed_bytes), format_size(space.free_bytes),
                            space.needed_bytes, space.free_bytes),
                "Free space there, or put the shards on other drives with --shard-dir");
  }
}

}  // namespace headrace::storage

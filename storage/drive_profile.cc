#include "storage/drive_profile.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "storage/drive_properties.h"
#include "storage/error.h"
#include "storage/file.h"
#include "storage/json.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kFormat = "headrace drive profile";
constexpr int kVersion = 1;
constexpr uint64_t kMostFileBytes = 64 << 10;
constexpr size_t kLongestText = 200;
constexpr int kMostParents = 64;
// Beyond these a value is no measurement of a drive.
constexpr double kLeastRate = 1e3, kMostRate = 1e13;  // bytes a second
constexpr double kMostLatency_us = 1e9;
constexpr uint64_t kLeastTransfer = 4096, kMostTransfer = uint64_t{1} << 30;
constexpr uint64_t kMostDepth = 4096;
// A file system that was enlarged is the same; one on another drive seldom has the same size.
constexpr double kSizeTolerance = 0.1;

struct Invalid {
  std::string why;
};

const Json& member(const Json& json, const char* name) {
  const auto found = json.is_object() ? json.find(name) : json.end();
  if (!json.is_object() || found == json.end()) throw Invalid{fmt::format("it has no '{}'", name)};
  return *found;
}

double number(const Json& json, const char* name, double low, double high) {
  const Json& value = member(json, name);
  const double result = value.is_number() ? value.get<double>() : NAN;
  if (!(result >= low && result <= high))
    throw Invalid{fmt::format("its '{}' is no number from {} to {}", name, low, high)};
  return result;
}

uint64_t count(const Json& json, const char* name, uint64_t low, uint64_t high) {
  const Json& value = member(json, name);
  const uint64_t result = value.is_number_unsigned() ? value.get<uint64_t>() : 0;
  if (!value.is_number_unsigned() || result < low || result > high)
    throw Invalid{fmt::format("its '{}' is no whole number from {} to {}", name, low, high)};
  return result;
}

std::string text(const Json& json, const char* name) {
  const Json& value = member(json, name);
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  if (!value.is_string() || text.size() > kLongestText || printable(text, kLongestText) != text)
    throw Invalid{fmt::format("its '{}' is no plain text of at most {} bytes", name, kLongestText)};
  return text;
}

// Either measurement's transfer_bytes and depth.
template <typename Measured>
void read_transfers(const Json& json, Measured& result) {
  result.transfer_bytes = count(json, "transfer_bytes", kLeastTransfer, kMostTransfer);
  if (result.transfer_bytes % kLeastTransfer != 0)
    throw Invalid{fmt::format("its 'transfer_bytes' is no multiple of {}", kLeastTransfer)};
  result.depth = static_cast<uint32_t>(count(json, "depth", 1, kMostDepth));
}

MeasuredRate rate(const Json& json, const char* name) {
  const Json& value = member(json, name);
  MeasuredRate result;
  result.bytes_per_second = number(value, "bytes_per_second", kLeastRate, kMostRate);
  read_transfers(value, result);
  result.latency_p50_us = number(value, "latency_p50_us", 0, kMostLatency_us);
  result.latency_p99_us = number(value, "latency_p99_us", 0, kMostLatency_us);
  return result;
}

DriveProfile profile_of(const Json& json) {
  if (!json.is_object()) throw Invalid{"it is no JSON object"};
  if (text(json, "format") != kFormat) throw Invalid{"it is of another format"};
  if (const uint64_t version = count(json, "version", 0, ~uint64_t{0}); version != kVersion)
    throw Invalid{fmt::format("it has version {}, and this program reads {}", version, kVersion)};
  DriveProfile profile;
  profile.date = text(json, "date");
  profile.kernel = text(json, "kernel");
  profile.device = text(json, "device");
  profile.file_system = text(json, "file_system");
  profile.file_system_bytes = count(json, "file_system_bytes", 0, ~uint64_t{0});
  profile.io = text(json, "io");
  if (!member(json, "direct").is_boolean()) throw Invalid{"its 'direct' is neither true nor false"};
  profile.direct = member(json, "direct").get<bool>();
  profile.read = rate(json, "read");
  profile.write = rate(json, "write");
  if (json.contains("mix")) {
    const Json& json_of_mix = member(json, "mix");
    MeasuredMix mix;
    mix.read_bytes_per_second = number(json_of_mix, "read_bytes_per_second", kLeastRate, kMostRate);
    mix.written_bytes_per_second = number(json_of_mix, "written_bytes_per_second", kLeastRate, kMostRate);
    read_transfers(json_of_mix, mix);
    profile.mix = mix;
  }
  return profile;
}

Json rate_json(const MeasuredRate& rate) {
  return {{"bytes_per_second", rate.bytes_per_second},
          {"transfer_bytes", rate.transfer_bytes},
          {"depth", rate.depth},
          {"latency_p50_us", rate.latency_p50_us},
          {"latency_p99_us", rate.latency_p99_us}};
}

// The content of the file, as long as it is one that may be believed. Throws Invalid.
std::string read_profile(int descriptor, const struct stat& directory) {
  struct stat status {};
  if (::fstat(descriptor, &status) != 0) throw Invalid{system_text(errno)};
  if (!S_ISREG(status.st_mode)) throw Invalid{"it is no regular file"};
  if (status.st_uid != ::geteuid() && status.st_uid != 0 && status.st_uid != directory.st_uid)
    throw Invalid{"it belongs to somebody else"};
  if (static_cast<uint64_t>(status.st_size) > kMostFileBytes)
    throw Invalid{
        fmt::format("it has {} bytes, and a profile has at most {}", status.st_size, kMostFileBytes)};
  std::string content(static_cast<size_t>(status.st_size), '\0');
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t got = ::read(descriptor, content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Invalid{system_text(errno)};
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  content.resize(done);
  return content;
}

uint64_t file_system_bytes(const std::string& directory) {
  struct statvfs status {};
  return ::statvfs(directory.c_str(), &status) == 0 ? uint64_t{status.f_blocks} * status.f_frsize : 0;
}

void expect_place(const DriveProfile& profile, const std::string& directory) {
  const double was = static_cast<double>(profile.file_system_bytes);
  const double is = static_cast<double>(file_system_bytes(directory));
  if (profile.file_system == file_system_name(directory) &&
      std::abs(was - is) <= kSizeTolerance * std::max(was, is)) {
    return;
  }
  throw Invalid{"it was measured on another file system"};
}

// Looks in one directory; false: there is no such file.
bool look_in(const std::string& directory, const struct stat& status, FoundProfile& found) {
  const std::string path = (fs::path(directory) / kProfileName).string();
  // Without O_NONBLOCK, opening a named pipe would wait for a writer that may never come.
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  const int error_number = descriptor < 0 ? errno : 0;
  if (error_number == ENOENT || error_number == ENOTDIR) return false;
  const File file(descriptor, path);
  try {
    if (error_number != 0)
      throw Invalid{error_number == ELOOP ? "it is a symbolic link" : system_text(error_number)};
    std::string why;
    found.profile = parse_profile(read_profile(file.descriptor(), status), why);
    if (!found.profile) throw Invalid{why};
    expect_place(*found.profile, directory);
    found.path = path;
  } catch (const Invalid& invalid) {
    found.profile.reset();
    found.warning = fmt::format("the stored profile {} is ignored: {}", printable(path), invalid.why);
  }
  return true;
}

}  // namespace

std::string profile_json(const DriveProfile& profile) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["date"] = profile.date;
  json["kernel"] = profile.kernel;
  json["device"] = profile.device;
  json["file_system"] = profile.file_system;
  json["file_system_bytes"] = profile.file_system_bytes;
  json["io"] = profile.io;
  json["direct"] = profile.direct;
  json["read"] = rate_json(profile.read);
  json["write"] = rate_json(profile.write);
  if (profile.mix)
    json["mix"] = {{"read_bytes_per_second", profile.mix->read_bytes_per_second},
                   {"written_bytes_per_second", profile.mix->written_bytes_per_second},
                   {"transfer_bytes", profile.mix->transfer_bytes},
                   {"depth", profile.mix->depth}};
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::optional<DriveProfile> parse_profile(std::string_view json, std::string& why) {
  try {
    return profile_of(parse_json<Json>(json));
  } catch (const Invalid& invalid) {
    why = invalid.why;
    return std::nullopt;
  }
}

void write_drive_profile(const std::string& directory, const DriveProfile& profile) {
  const std::string path = (fs::path(directory) / kProfileName).string(), fresh = path + ".new";
  if (::unlink(fresh.c_str()) != 0 && errno != ENOENT)
    throw Error(ErrorKind::kFailed, fmt::format("cannot remove {}: {}", fresh, system_text(errno)));
  const std::string content = profile_json(profile);
  try {
    const File file = File::open(fresh, OpenMode::kCreate);
    file.pwrite_all(std::as_bytes(std::span(content)), 0);
    file.sync();
    if (::rename(fresh.c_str(), path.c_str()) != 0)
      throw Error(ErrorKind::kFailed, fmt::format("cannot rename {}: {}", fresh, system_text(errno)));
  } catch (const Error&) {
    ::unlink(fresh.c_str());
    throw;
  }
  sync_directory(directory);
}

FoundProfile find_drive_profile(const std::string& directory) {
  FoundProfile found;
  std::error_code error;
  fs::path place = fs::weakly_canonical(fs::absolute(directory, error), error);
  std::optional<dev_t> device;
  for (int level = 0; !error && level < kMostParents; level++, place = place.parent_path()) {
    struct stat status {};
    if (::stat(place.c_str(), &status) == 0) {
      if (device && status.st_dev != *device) break;
      device = status.st_dev;
      if (look_in(place.string(), status, found) && found.profile) break;
    }
    if (!place.has_relative_path()) break;
  }
  return found;
}

DriveProfile describe_place(const std::string& directory) {
  DriveProfile profile;
  profile.date = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr)));
  utsname names{};
  if (::uname(&names) == 0) profile.kernel = names.release;
  profile.device = printable(drive_properties_of(directory).name, kLongestText / 4);
  profile.file_system = file_system_name(directory);
  profile.file_system_bytes = file_system_bytes(directory);
  return profile;
}

}  // namespace headrace::storage

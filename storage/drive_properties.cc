#include "storage/drive_properties.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>

#include "storage/error.h"
#include "storage/space.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMostRequestBytes = uint64_t{1} << 30;
constexpr uint64_t kMostRequests = 1 << 20;
constexpr uint64_t kXfsMagic = 0x58465342, kZfsMagic = 0x2fc12fc1;  // not in linux/magic.h

// A number from 1 to `most`; sysfs writes it with a line feed behind it.
std::optional<uint64_t> read_value(const fs::path& path, uint64_t least, uint64_t most) {
  std::array<char, 32> text{};
  std::ifstream file(path);
  file.read(text.data(), text.size());
  std::string_view word(text.data(), static_cast<size_t>(file.gcount()));
  if (word.ends_with('\n')) word.remove_suffix(1);
  const std::optional<uint64_t> value = parse_count(word);
  return value && *value >= least && *value <= most ? value : std::nullopt;
}

// The host of a virtio or Xen drive may have anything below; the kernel's flag is then a default.
bool is_virtual(const std::string& name) { return name.starts_with("vd") || name.starts_with("xvd"); }

}  // namespace

DriveProperties drive_properties(uint64_t device, const std::string& sysfs_root) {
  DriveProperties drive;
  std::error_code error;
  fs::path place = fs::canonical(
      fmt::format("{}/dev/block/{}:{}", sysfs_root, gnu_dev_major(device), gnu_dev_minor(device)), error);
  if (error) return drive;
  if (fs::exists(place / "partition", error)) place = place.parent_path();
  if (!fs::is_directory(place / "queue", error)) return drive;
  drive.name = printable(place.filename().string(), 60);
  const fs::path queue = place / "queue";
  if (const auto kib = read_value(queue / "max_sectors_kb", 1, kMostRequestBytes >> 10))
    drive.largest_request_bytes = *kib << 10;
  drive.optimal_request_bytes = read_value(queue / "optimal_io_size", 1, kMostRequestBytes);
  drive.requests = read_value(queue / "nr_requests", 1, kMostRequests);
  if (const auto depth = read_value(place / "device/queue_depth", 1, kMostRequests))
    drive.requests = std::min(drive.requests.value_or(*depth), *depth);
  if (const auto flag = read_value(queue / "rotational", 0, 1); flag && !is_virtual(drive.name))
    drive.rotational = *flag == 1;
  return drive;
}

DriveProperties drive_properties_of(const std::string& directory, const std::string& sysfs_root) {
  try {
    return drive_properties(device_of(directory), sysfs_root);
  } catch (const Error&) {
    return {};  // whoever works in the directory will say so
  }
}

std::string file_system_name(const std::string& directory) {
  struct statfs status {};
  if (::statfs(directory.c_str(), &status) != 0) return "";
  switch (static_cast<uint64_t>(status.f_type)) {
    case EXT4_SUPER_MAGIC:
      return "ext4";
    case kXfsMagic:
      return "xfs";
    case BTRFS_SUPER_MAGIC:
      return "btrfs";
    case F2FS_SUPER_MAGIC:
      return "f2fs";
    case kZfsMagic:
      return "zfs";
    case TMPFS_MAGIC:
      return "tmpfs";
    case OVERLAYFS_SUPER_MAGIC:
      return "overlayfs";
    case NFS_SUPER_MAGIC:
      return "nfs";
    default:
      return fmt::format("{:#x}", static_cast<uint64_t>(status.f_type));
  }
}

}  // namespace headrace::storage

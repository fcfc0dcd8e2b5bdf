// What the kernel says of the device below a directory: sysfs (Documentation/ABI/stable/sysfs-block) and
// statfs.
//
// Values from sysfs are input from outside: one that is missing, no number or absurd is absent here. Threads:
// any. Failure: none; what cannot be found out is absent.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace headrace::storage {

struct DriveProperties {
  std::string name;  // of the whole device, "nvme0n1"; empty: none known (tmpfs, network, several devices)
  std::optional<uint64_t> largest_request_bytes;  // queue/max_sectors_kb: larger ones are cut up
  std::optional<uint64_t> optimal_request_bytes;  // queue/optimal_io_size: the stripe of a RAID, for example
  std::optional<uint64_t> requests;  // in flight: queue/nr_requests, or device/queue_depth where that is less
  std::optional<bool> rotational;    // absent too for virtual drives whose host does not say
};

// Of the device with this number (struct stat's st_dev).
DriveProperties drive_properties(uint64_t device, const std::string& sysfs_root = "/sys");
// Of the nearest existing directory at or above this one.
DriveProperties drive_properties_of(const std::string& directory, const std::string& sysfs_root = "/sys");

// "ext4", "xfs", "tmpfs"; a number where the name is not known.
std::string file_system_name(const std::string& directory);

}  // namespace headrace::storage

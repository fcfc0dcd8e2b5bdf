// Which transfers to ask of the drives below some directories: from what was measured there
// (storage/drive_profile.h), else from what the kernel says of the devices (storage/drive_properties.h), else
// a default. Only speed depends on it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/block_io.h"
#include "storage/drive_profile.h"
#include "storage/drive_properties.h"

namespace headrace::storage {

struct IoTuning {
  uint64_t transfer_bytes = uint64_t{1} << 20;  // a multiple of 4096
  uint32_t depth = 16;                          // transfers in flight on a drive
  std::string why;                              // "as measured on ...", "nvme0n1 takes requests of ..."

  // "transfers of 1 MiB, 16 in flight: ..."
  std::string description() const;
  void apply(IoOptions& options) const;
};

IoTuning tuning_of(const DriveProperties& drive);
// `name`: of the directory, for `why`.
IoTuning tuning_of(const DriveProfile& profile, const std::string& name);

struct TunedIo {
  IoTuning tuning;
  std::vector<std::string> warnings;  // of profiles that were ignored
};
// For files on all of these directories together: the smallest transfers and the greatest depth, as a drive
// that could take more gets smaller pieces, and more of them, at little cost.
TunedIo tune_io(std::span<const std::string> directories, const std::string& sysfs_root = "/sys");

}  // namespace headrace::storage

// What can be known of a directory before anything is measured: its file system, direct I/O, space; and of
// the process: io_uring, the memlock limit. And whether that suits training.
//
// Any thread. Failure: Error that names the directory and says what to change: kUsage for what is no
// directory, kRefused for one that cannot be written to.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace headrace::bench {

struct DirectoryFacts {
  std::string path;
  std::string file_system;  // "ext4"
  std::string source;       // "/dev/nvme0n1p2"
  std::string mount_point, mount_options;
  uint64_t device = 0;  // st_dev
  uint64_t free_bytes = 0, total_bytes = 0;
  bool in_memory = false;  // tmpfs, ramfs: no drive at all
  bool direct = false;     // files are opened with O_DIRECT
  std::string why_not_direct;
  bool alignment_known = false;                         // by STATX_DIOALIGN
  uint32_t memory_alignment = 0, offset_alignment = 0;  // bytes
  std::string model;                                    // of the drive, where the kernel names one
  std::optional<bool> rotational;
};

struct SystemFacts {
  std::string kernel;     // "Linux 6.1.0"
  std::string processor;  // "Intel(R) ..."
  uint32_t processors = 0;
  bool io_uring = false;
  std::string why_no_io_uring;
  uint64_t memlock_bytes = 0;  // ~0: unlimited
};

DirectoryFacts look_at_directory(const std::string& path);
SystemFacts look_at_system();

enum class Fitness : uint8_t { kGood, kLimited, kUnfit };
struct Finding {
  Fitness fitness = Fitness::kGood;
  std::string text;  // a sentence without full stop
};
// One finding for each thing looked at. `wanted_memlock_bytes`: what training or the measurement would
// register.
std::vector<Finding> findings(const DirectoryFacts& directory, const SystemFacts& system,
                              uint64_t wanted_memlock_bytes);
Fitness worst(const std::vector<Finding>& findings);

}  // namespace headrace::bench

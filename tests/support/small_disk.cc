#include "tests/support/small_disk.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <vector>

#include "storage/error.h"

namespace headrace::testing {

SmallDisk::SmallDisk(const std::string& directory, DiskKind kind, uint64_t bytes) : directory_(directory) {
  if (kind == DiskKind::kTmpfs) {
    const std::string size = fmt::format("size={}", bytes);
    if (::mount("none", directory.c_str(), "tmpfs", 0, size.c_str()) != 0)
      why_not_ = "cannot mount a tmpfs: " + system_text(errno);
    return;
  }
  const std::string command = fmt::format(
      "PATH=/usr/sbin:/sbin:$PATH; truncate -s {0} {1}.img && mkfs.ext4 -q -m 0 -F {1}.img && "
      "mount -o loop {1}.img {1}",
      bytes, directory);
  if (std::system(command.c_str()) != 0) why_not_ = "cannot mount an ext4 file system from a file";
}

SmallDisk::~SmallDisk() {
  if (why_not_.empty()) ::umount2(directory_.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove(directory_ + ".img", ignored);
}

void SmallDisk::fill() const {
  const int file = ::open((directory_ + "/filler").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  HEADRACE_CHECK(file >= 0, system_text(errno));
  const std::vector<char> zeros(size_t{1} << 16);
  for (size_t bytes = zeros.size(); bytes > 0; bytes /= 2)
    while (::write(file, zeros.data(), bytes) > 0) {
    }
  ::fsync(file);
  ::close(file);
}

void SmallDisk::empty() const { std::filesystem::remove(directory_ + "/filler"); }

}  // namespace headrace::testing

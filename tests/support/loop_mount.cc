#include "tests/support/loop_mount.h"

#include <filesystem>

#include "tests/support/process.h"

namespace headrace::testing {

namespace {

// "", or what it said when it failed.
std::string run(const std::string& command) {
  const ProcessResult result =
      Process("/bin/sh", {.arguments = {"-c", "PATH=/usr/sbin:/sbin:/usr/bin:/bin; " + command}}).finish();
  return result.exit_status == 0 ? "" : "cannot: " + command + ": " + result.err;
}

}  // namespace

LoopMount::LoopMount(uint64_t mebibytes, const std::string& options) {
  std::filesystem::create_directory(path_);
  const std::string image = directory_ / "image";
  why_not_ = run("truncate -s " + std::to_string(mebibytes) + "M " + image + " && mkfs.ext4 -q -m 0 " +
                 image + " && mount -o loop," + options + " " + image + " " + path_);
}

LoopMount::~LoopMount() { unmount(); }

std::string LoopMount::remount(const std::string& options) const {
  return run("mount -o remount," + options + " " + path_);
}

void LoopMount::unmount() {
  if (why_not_.empty()) why_not_ = run("umount " + path_) + " unmounted";
}

}  // namespace headrace::testing

// A small file system of its own, to be filled: tmpfs, or ext4 in a file. Needs the rights to mount.
#pragma once

#include <cstdint>
#include <string>

namespace headrace::testing {

enum class DiskKind { kTmpfs, kExt4 };

class SmallDisk {
 public:
  // Mounts at `directory`, which must exist; ext4 keeps its bytes in "<directory>.img". why_not() says what
  // was wrong where it cannot.
  SmallDisk(const std::string& directory, DiskKind kind, uint64_t bytes);
  ~SmallDisk();  // unmounts
  SmallDisk(const SmallDisk&) = delete;
  SmallDisk& operator=(const SmallDisk&) = delete;

  const std::string& why_not() const { return why_not_; }  // empty: it is mounted
  void fill() const;                                       // until nothing more fits
  void empty() const;                                      // takes away what fill() wrote

 private:
  std::string directory_, why_not_;
};

}  // namespace headrace::testing

// Free space of file systems. Any thread; failure: Error.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/store.h"

namespace headrace::storage {

// Bytes wanted in each of some directories, which need not exist yet, added up by file system.
struct SpaceWanted {
  std::string directory;
  uint64_t bytes = 0;
};
std::vector<SpaceNeeded> space_by_file_system(std::span<const SpaceWanted> wanted);
// Throws Error (kRefused) for the first that has too little.
void require_space(std::span<const SpaceNeeded> needed);

// The device of the nearest existing directory at or above `path`.
uint64_t device_of(const std::string& path);

}  // namespace headrace::storage

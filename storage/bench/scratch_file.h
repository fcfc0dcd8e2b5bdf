// A file for measuring: without a name, gone with its descriptor however the process ends.
//
// Ownership: owns its descriptor. Failure: Error; too little space is kRefused and says how much is free.
#pragma once

#include <cstdint>
#include <string>

#include "storage/file.h"

namespace headrace::bench {

enum class DirectMode : uint8_t {
  kAuto,  // O_DIRECT where the file system has it
  kYes,   // or kRefused
  kNo,    // through the page cache, each write flushed and what was moved dropped, as training does without
};

// Reserves `bytes` and sets the size; nothing is written.
storage::BlockFile make_scratch_file(const std::string& directory, uint64_t bytes, DirectMode direct);

// Writes back and drops what the page cache holds of the file; the share of its pages that stayed.
double drop_from_cache(const storage::BlockFile& file, uint64_t bytes);

}  // namespace headrace::bench

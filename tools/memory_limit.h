// How much memory this process could use now: what the machine has free, or less where a memory cgroup
// (version 1 or 2, any ancestor) limits it.
#pragma once

#include <cstdint>
#include <string>

namespace headrace::tools {

struct AvailableMemory {
  uint64_t bytes = 0;
  std::string limited_by;  // "the machine's free memory", "the cgroup /a/b"
};

// `root` stands before every path that is read: "" but in tests. Throws Error (kRefused) where the system
// says nothing.
AvailableMemory available_memory(const std::string& root = "");

}  // namespace headrace::tools

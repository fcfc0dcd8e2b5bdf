// The thread back end with its system calls exchangeable, so that tests can script short transfers and errors
// below the logic that continues and repeats. Everyone else uses make_thread_io() of block_io.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "storage/block_io.h"

namespace headrace::storage {

// Each returns what the system call of that name does, with -errno in place of -1. Called from several
// threads at once.
struct TransferCalls {
  std::function<int64_t(int descriptor, std::byte* data, uint64_t bytes, uint64_t offset)> read;
  std::function<int64_t(int descriptor, const std::byte* data, uint64_t bytes, uint64_t offset)> write;
  std::function<int64_t(int descriptor)> sync;
  std::function<int64_t(int descriptor, uint64_t offset, uint64_t bytes)> flush;  // sync_file_range, waiting
  std::function<int64_t(int descriptor, uint64_t offset, uint64_t bytes)> drop;   // POSIX_FADV_DONTNEED
};

TransferCalls system_transfer_calls();

// `description` is what BlockIo::description() returns.
std::unique_ptr<BlockIo> make_thread_io(const IoOptions& options, TransferCalls calls,
                                        std::string description);

}  // namespace headrace::storage

// Adds to a checkpoint what must be read from the run for it: all of a stopped run; of a training run, what
// did not pass through memory.
#pragma once

#include <cstdint>
#include <functional>

#include "storage/block_io.h"
#include "storage/checkpoint_writer.h"
#include "storage/store.h"

namespace headrace::storage {

// Reads, verifies and adds every block that the checkpoint still needs, which nobody may write meanwhile.
// `threads` of them, each with a buffer of a plane of a block. Returns the bytes read. `progress`, if there
// is one, is told the share done, from any thread; what it throws ends the saving. Throws Error.
uint64_t save_missing(CheckpointWriter& writer, const Store& store, BlockIo& io, uint32_t threads,
                      const std::function<void(double fraction)>& progress = nullptr);

// The path of the newest checkpoint of a run that may share packs with one of this kind; empty: none.
std::string earlier_checkpoint(const std::string& run_dir, bool weights_only);

}  // namespace headrace::storage

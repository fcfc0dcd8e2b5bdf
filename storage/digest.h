// The digest of a run or checkpoint: one hexadecimal text that depends on the logical content alone: names
// and shapes of the tensors, their exact values and those of the optimizer's state, and the committed step.
// Never on slots, shards, block size, or how tensors share records. Equal digests mean equal models.
#pragma once

#include <functional>
#include <string>

#include "storage/block_io.h"
#include "storage/store.h"
#include "storage/tensor_source.h"

namespace headrace::storage {

// Reads and verifies all content once, in a few tens of MiB of memory. Throws Error (kCorrupt) for a
// content that is not what was written. `progress`, if there is one, is told the share done.
std::string digest(TensorSource& source, const std::function<void(double fraction)>& progress = nullptr);
std::string digest(const Store& store, BlockIo& io,
                   const std::function<void(double fraction)>& progress = nullptr);

}  // namespace headrace::storage

// A run as a source of tensors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "storage/block_io.h"
#include "storage/store.h"
#include "storage/tensor_source.h"

namespace headrace::storage {

// The tensors of a layout (its parts), as sources list them. `stored_bytes` is left as `bytes`.
std::vector<SourceTensor> tensors_of(const Layout& layout);

// What a catalog says, or the content under both locks: see SourceUse.
std::unique_ptr<TensorSource> open_run(const std::string& run_dir, const SourceOptions& options);
// Of a store that is open, which must outlive the source; nothing may be written meanwhile.
std::unique_ptr<TensorSource> source_of(const Store& store, BlockIo& io);

}  // namespace headrace::storage

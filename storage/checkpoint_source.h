// A checkpoint as a source of tensors.
#pragma once

#include <memory>
#include <string>

#include "storage/tensor_source.h"

namespace headrace::storage {

// For listing, the manifest and the packs' sizes; for reading, their tables too. Failure: as of
// CheckpointReader.
std::unique_ptr<TensorSource> open_checkpoint(const std::string& directory, SourceUse use);

}  // namespace headrace::storage

// Checkpoints of the small model (store_content.h), for tests: written from a stopped run and restored.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "storage/checkpoint_writer.h"
#include "storage/store.h"

namespace headrace::testing {

// What a checkpoint of the open run holds. The store must outlive it.
storage::CheckpointTarget target_of(const storage::Store& store, const std::string& directory,
                                    bool weights_only = false);
// Saves the committed step of a run that nobody has open.
storage::CheckpointStats save_checkpoint(const std::string& run_dir, const std::string& directory,
                                         bool weights_only = false,
                                         const std::function<void(const char*)>& at = nullptr);
// Makes a run of it, with blocks of so many rows.
void restore_checkpoint(const std::string& checkpoint, const std::string& run_dir,
                        const std::vector<std::string>& shard_dirs = {}, uint64_t block_rows = 32,
                        bool weights_only = false);

}  // namespace headrace::testing

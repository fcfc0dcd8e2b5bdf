// Where checkpoints lie: RUN/checkpoints/step-000400, written aside as step-000400.unfinished and renamed
// when all of it is durable; one to be removed is renamed to step-000400.removed first. So what has a plain
// name is whole, whenever the process is killed.
//
// For the holder of the run's lock. Failure: Error.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace headrace::storage {

std::string checkpoint_directory(const std::string& run_dir, uint64_t step, bool weights_only);
std::string unfinished_directory(const std::string& checkpoint);
std::string manifest_path(const std::string& checkpoint);

// Paths of the whole checkpoints of a run, by step.
std::vector<std::string> list_checkpoints(const std::string& run_dir);
// Removes what a killed process left, unfinished or half removed.
void remove_leftovers(const std::string& run_dir);
// Removes a checkpoint, whole or unfinished, if there is one. Of files, only those that a checkpoint consists
// of; with others in it the directory stays and that is an Error.
void remove_checkpoint(const std::string& checkpoint);
// Removes the oldest of those that the training took (CheckpointManifest::automatic), so that `keep` are
// left.
void keep_newest(const std::string& run_dir, uint64_t keep);

}  // namespace headrace::storage

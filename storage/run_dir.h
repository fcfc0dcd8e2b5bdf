// A run's directory: its lock, what lies in it, and the marker of a creation that is not finished.
//
// The marker RUN/creating.json names the run id and the shards' directories before any of them is made, and
// goes after the catalog has taken its place by a rename. A directory with a marker and no catalog holds the
// remains of a creation that was cut short; they are removed by the next try. Nothing unmarked ever is.
// Threads: one at a time. Failure: Error.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/file.h"

namespace headrace::storage {

std::string catalog_directory(const std::string& run_dir);      // RUN/catalog
std::string new_catalog_directory(const std::string& run_dir);  // where it is made
std::string metrics_path(const std::string& run_dir);           // RUN/metrics.jsonl
// RUN/shards/000; or DIR/<run id>-000 for the shard directories that were given.
std::vector<std::string> new_shard_directories(const std::string& run_dir, const std::string& run_id,
                                               const std::vector<std::string>& shard_dirs);
// Throws Error (kUsage) where one does not exist.
void require_shard_directories(const std::vector<std::string>& shard_dirs);
std::string shard_directory_name(const std::string& run_id, uint32_t shard);  // "<run id>-000"

// The path of `path` within RUN where it lies inside, else absolute; and back.
std::string path_in_run(const std::string& run_dir, const std::string& path);
std::string path_from_run(const std::string& run_dir, const std::string& recorded);

std::string new_run_id();  // 32 random hexadecimal digits

// flock on the directory, for as long as the File lives. Another holder: kRefused at once.
File lock_run(const std::string& run_dir);

void make_directory(const std::string& path);  // one level; it may exist, its parent must
bool file_exists(const std::string& path);

void write_marker(const std::string& run_dir, const std::string& run_id,
                  const std::vector<std::string>& shards);
bool remove_marker(const std::string& run_dir);  // if there is one; whether there was
// Removes the remains of a creation that was cut short, if the marker says that these are such.
void remove_unfinished(const std::string& run_dir);
// Throws Error (kUsage) when the directory holds a run or anything else.
void require_empty(const std::string& run_dir);

}  // namespace headrace::storage

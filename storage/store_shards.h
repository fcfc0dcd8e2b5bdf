// The shards of a store, found, locked and checked; what creation and opening share. For store.cc and
// store_create.cc.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "storage/block_io.h"
#include "storage/catalog.h"
#include "storage/shard.h"

namespace headrace::storage {

HomeRecord home_of(const std::string& run_dir);

// Directories of one file system share a drive. Numbers follow the first directory on each.
uint32_t drive_number(std::span<const std::string> directories, size_t index);

// fdatasync of all files, in parallel.
void sync_files(BlockIo& io, std::span<const FileIndex> files);

// Where each shard is now: as recorded, or below or at one of `shard_dirs`. Throws kRefused when one is
// missing or when this may be a copy of a run whose shards lie elsewhere.
std::vector<std::string> find_shards(const std::string& run_dir, const CatalogContent& content,
                                     const std::vector<std::string>& shard_dirs);

// Opens and locks the shards, and compares their structure with what the catalog says.
std::vector<Shard> open_shards(const CatalogContent& content, std::span<const std::string> directories);

}  // namespace headrace::storage

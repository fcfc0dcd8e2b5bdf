// A file for what a step cannot keep in memory (gradients, activations): one for each shard directory,
// without a name, gone with the process, never synced. The caller says where in it things lie and keeps their
// checksums (checksum_extent() with kSpillSlot).
//
// Ownership: owns the descriptor; must outlive requests on it. Threads: as BlockIo once made. Failure: Error;
// too little space is a SpaceError.
#pragma once

#include <cstdint>
#include <string>

#include "storage/block_io.h"
#include "storage/file.h"

namespace headrace::storage {

class SpillFile {
 public:
  // `drive`: as the shard in this directory has: drive_number(store.shard_paths(), shard) of store_shards.h.
  SpillFile(const std::string& directory, uint32_t drive, BlockIo& io);

  // Makes room for extents within [0, bytes), so that no write finds the disk full. May be called again with
  // more.
  void reserve(uint64_t bytes);
  uint64_t reserved_bytes() const { return reserved_bytes_; }
  FileIndex file() const { return index_; }
  bool direct() const { return file_.direct; }

 private:
  std::string directory_;
  BlockFile file_;
  FileIndex index_ = 0;
  uint64_t reserved_bytes_ = 0;
};

}  // namespace headrace::storage

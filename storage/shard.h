// A shard: one file on one drive that holds slots of blocks. LMDB lays it out once; its structure never
// changes again, and block I/O moves the payloads in place. A record's value is a header of one page less
// LMDB's own 16 bytes, then the payload, which so begins on a page. docs/formats.md has the details.
//
// Ownership: Shard owns the descriptor that reads and writes, which also holds the lock. Threads: construct
// and destroy on one; payload_file() may be used by any. Failure: Error; kCorrupt names the file.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/file.h"
#include "storage/layout.h"

namespace headrace::storage {

struct ShardIdentity {
  std::string run_id;  // 32 hexadecimal digits
  uint32_t number = 0, count = 0;
};

// Where the payload of a slot of a block lies.
struct PayloadPlace {
  BlockId block = 0;
  uint32_t slot = 0;
  uint64_t offset = 0, bytes = 0;  // in the shard's file; a multiple of the page size
};

struct ShardStructure {
  uint64_t file_bytes = 0;
  std::string hash;                  // LmdbFile::structure
  std::vector<PayloadPlace> places;  // in the order of (slot, block)
};

// What lay_out_shard() reserves for these blocks: no less than the file will take.
uint64_t shard_bytes(std::span<const BlockLayout* const> blocks);

// Makes DIRECTORY/data.mdb with a record for every slot of `blocks`, payloads unwritten (they read as zeros),
// durably; touches no payload page. Space is reserved first: too little is an Error (kRefused).
void lay_out_shard(const std::string& directory, const ShardIdentity& identity,
                   std::span<const BlockLayout* const> blocks);

class Shard {
 public:
  // Opens DIRECTORY/data.mdb for block I/O and takes its lock, waiting up to `wait_seconds` for requests of a
  // dead process to finish; then kRefused.
  Shard(const std::string& directory, double wait_seconds);

  const std::string& directory() const { return directory_; }
  const std::string& path() const { return blocks_.file.path(); }  // of the file
  const BlockFile& payload_file() const { return blocks_; }
  // Checks the file's structure and every header, without mapping it: it must be the shard `identity`.
  ShardStructure read_structure(const ShardIdentity& identity) const;

 private:
  std::string directory_;
  BlockFile blocks_;
};

}  // namespace headrace::storage

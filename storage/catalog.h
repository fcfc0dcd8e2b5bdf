// The catalog of a run: what changes transactionally. Which step is committed, which slot of each block is
// current and its checksums, the data cursor, the metrics lines; beside these what creation fixed: the run
// id, the model, the tensor table, the shards and where in them each block's slots lie.
//
// Threads: one at a time. Failure: Error; kCorrupt for content that does not fit together.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "storage/catalog_env.h"
#include "storage/layout.h"

namespace headrace::storage {

struct ShardRecord {
  std::string path;  // directory; relative to the run's where it lies inside, else absolute
  uint64_t file_bytes = 0;
  std::string structure;  // LmdbFile::structure
};

struct BlockPlace {
  uint32_t shard = 0;
  std::array<uint64_t, 2> offsets{};  // of each slot's payload in the shard's file; 0: no such slot
};

// The committed content of a block.
struct BlockRecord {
  BlockId block = 0;
  uint32_t slot = 0;
  uint64_t step = 0;  // that wrote it
  std::span<const uint64_t> checksums;
};

// Where the run's directory was when shards outside it were last found.
struct HomeRecord {
  std::string path;
  uint64_t device = 0, inode = 0;
};

struct StepRecord {
  uint64_t step = 0;
  std::string cursor_json;
  uint64_t metrics_bytes = 0;  // length of metrics.jsonl before `metrics_text`
  std::string metrics_text;    // this commit's lines, each with its newline
};

struct CatalogContent {
  std::string run_id;  // 32 hexadecimal digits
  std::string model_json;
  Layout layout;
  HomeRecord home;
  std::vector<ShardRecord> shards;
  std::vector<BlockPlace> places;  // by block
  StepRecord step;
  // By block; the checksums refer to `checksums`.
  std::vector<BlockRecord> blocks;
  std::vector<uint64_t> checksums;
};

class Catalog {
 public:
  // Makes the catalog in an empty directory and commits all of `content` at once.
  static void create(const std::string& directory, const CatalogContent& content);

  Catalog(const std::string& directory, CatalogAccess access) : env_(directory, access) {}
  CatalogContent load() const;
  // Makes room for commit(); SpaceError where there is none.
  void reserve(const StepRecord& step, std::span<const BlockRecord> blocks) const;
  void commit(const StepRecord& step, std::span<const BlockRecord> blocks);
  // The shards have moved; `step` is the committed one again.
  void move_shards(const HomeRecord& home, std::span<const ShardRecord> shards, const StepRecord& step);

 private:
  CatalogEnv env_;
};

}  // namespace headrace::storage

// A small model for tests of the store, whose every byte follows from the tensor, the plane, the element and
// the step: so any content can be checked against the step that it should be of, whatever the blocks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/block_io.h"
#include "storage/layout.h"
#include "storage/store.h"

namespace headrace::testing {

// Tensors "frozen" (one slot), "matrix", "wide" and "bundle" (three parts) with four planes of AdamW's, of
// which the last two are zero at step 0; "coded" and "coded bundle" (two parts) with six, of which the last
// four are, and the last two have a value for 32 elements. "matrix" and "coded" have blocks of `block_rows`
// rows.
storage::Layout small_layout(uint64_t block_rows = 32);

// The configuration of a run in `run_dir` on `shard_dirs`.
storage::StoreConfig small_config(const std::string& run_dir, const std::vector<std::string>& shard_dirs = {},
                                  uint64_t block_rows = 32);

// The payload of a block at a step. A frozen block is always as at step 0.
void fill_payload(const storage::Layout& layout, const storage::BlockLayout& block, uint64_t step,
                  std::span<std::byte> payload);

storage::BlockFiller small_filler(const storage::Layout& layout);  // the layout must outlive it

// Creates the run with step 0; opens it again with `store`.
void create_small(const storage::StoreConfig& config, storage::BlockIo& io);

// Writes the content of `step` to all trained blocks, in two ranges each, without committing.
void write_step(storage::Store& store, storage::BlockIo& io, uint64_t step);
// "metrics of step 3" and so on, with cursor {"at":3}.
storage::Commit commit_of(uint64_t step);
void write_and_commit(storage::Store& store, storage::BlockIo& io, uint64_t step);
std::string metrics_lines(uint64_t first_step, uint64_t last_step);  // of the file

// Reads everything with checksums and compares with the content of `step`; the name of the first block that
// differs, or nothing.
std::string first_difference(const storage::Store& store, storage::BlockIo& io, uint64_t step);

}  // namespace headrace::testing

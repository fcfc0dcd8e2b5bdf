// Before any work: how a step will be carried out within the memory budget, what it will move, and whether it
// fits at all. Everything comes from dry runs of the model's own code and from the planner that will run.
//
// Must be called inside the oneTBB arena that the training will use, since workspaces depend on its threads.
// Failure: Error (kRefused) that names the least budget that would do and what takes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/stream/cache.h"
#include "engine/train/model.h"
#include "engine/train/pruning.h"

namespace headrace::train {

// What the cache holds of a block.
class BlockEntrySizes : public stream::EntrySizes {
 public:
  BlockEntrySizes(const storage::Layout& layout, const stream::EntrySpace& space, stream::BlockPlanes planes)
      : layout_(layout), space_(space), planes_(planes) {}
  uint64_t entry_bytes(stream::EntryId id) const override;

 private:
  const storage::Layout& layout_;
  const stream::EntrySpace& space_;
  stream::BlockPlanes planes_;
};

struct PreflightInput {
  Model& model;
  const storage::Layout& layout;
  stream::BlockPlanes planes;
  Batch batch;           // a real one: which blocks an embedding reads depends on it
  bool training = true;  // otherwise forward passes alone
  bool late_updates = false;
  uint64_t micro_batch = 0;   // units; 0: chosen
  uint64_t commit_every = 1;  // steps
  uint64_t memory_bytes = 0;
  uint64_t reserved_bytes = 0;  // of these, for taking checkpoints
  uint64_t data_bytes = 0;      // and for batches and what data sets keep in memory
  Pruner pruner = {};
};

struct MemoryPart {
  std::string name;
  uint64_t bytes = 0;
};

struct Preflight {
  ExecutionPolicy policy;
  stream::CacheOptions cache;
  stream::PlannedBytes step;       // of a step once the cache is warm, on the average from commit to commit
  double flops = 0;                // of a step
  std::vector<MemoryPart> memory;  // what the budget is used for: the process, tables, the cache
  std::vector<MemoryPart> largest_operation;  // what must be in the cache at a time at least
};

Preflight preflight(const PreflightInput& input);

// The least budget that preflight() accepts, and what takes it, the largest part first.
struct LeastMemory {
  uint64_t bytes = 0;
  std::vector<MemoryPart> parts;
};
LeastMemory least_memory(const PreflightInput& input);

// Of a step: the longer of computing and moving hides most of the other.
double expected_step_seconds(double compute_seconds, double transfer_seconds);

// What the process needs beside the arena: itself, its libraries, and tables that grow with the run.
uint64_t fixed_bytes(const storage::Layout& layout, uint64_t operations);

}  // namespace headrace::train

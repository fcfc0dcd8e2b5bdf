// The content of a new run from a checkpoint, whatever the blocks and shards of either.
//
// Threads: fill() from several. Failure: Error; kUsage for a checkpoint of another model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "storage/checkpoint_reader.h"
#include "storage/layout.h"

namespace headrace::storage {

class CheckpointContent {
 public:
  // Compares the tensors: names, shapes and planes must be equal, their cut into blocks need not. Without the
  // optimizer's state (`weights_only`, or the checkpoint has none) its planes stay zero, and may be others
  // than the checkpoint's. Both must outlive this.
  CheckpointContent(const CheckpointReader& checkpoint, const Layout& layout, bool weights_only);

  // As a BlockFiller: fills a block's payload, and returns how many of its planes it filled.
  uint32_t fill(const BlockLayout& block, std::span<std::byte> payload);

 private:
  std::unique_ptr<CheckpointReader::Workspace> take_workspace();

  const CheckpointReader& checkpoint_;
  const Layout& layout_;
  bool weights_only_;
  std::vector<TensorId> source_;  // by tensor of the layout
  std::mutex mutex_;
  std::vector<std::unique_ptr<CheckpointReader::Workspace>> idle_;
};

}  // namespace headrace::storage

// Optimizers: which planes a block's record has, and the update of a block in memory.
//
// Any thread, different blocks at the same time; work is spread over the calling oneTBB arena. The result of
// an element depends on that element's values alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/stream/streamer.h"
#include "engine/train/options.h"
#include "storage/layout.h"

namespace headrace::train {

// What an update of one step needs beside the block.
struct OptimizerStep {
  uint64_t step = 1;  // counted from 1
  double lr = 0;
  float gradient_scale = 1;  // clipping
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual std::vector<storage::Plane> planes() const = 0;
  virtual stream::BlockPlanes block_planes() const = 0;
  // `weights` and `moments` are the block's two entries; gradient [elements].
  virtual void update(const OptimizerStep& step, bool decay, const storage::BlockLayout& block,
                      std::byte* weights, std::byte* moments, const float* gradient) const = 0;
};

std::unique_ptr<Optimizer> make_adamw(const RunOptions& options);
// By options.optimizer; Error (kUsage) for an unknown one.
std::unique_ptr<Optimizer> make_optimizer(const RunOptions& options);

}  // namespace headrace::train

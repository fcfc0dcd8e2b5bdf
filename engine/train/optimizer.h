// Optimizers: which planes a block's record has, and the update of a block in memory.
//
// Any thread, different blocks at the same time; work is spread over the calling oneTBB arena. The result of
// an element depends on that element's values alone, or on those of its group where elements share values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/math/updates.h"
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
  // `weights` and `moments` are the block's two entries, `moments` null where it has but one; gradient
  // [elements]. `decay`: whether weight decay and penalties apply to the tensor.
  virtual void update(const OptimizerStep& step, bool decay, const storage::BlockLayout& block,
                      std::byte* weights, std::byte* moments, const float* gradient) const = 0;
};

// A line of the table of optimizers.
struct OptimizerFamily {
  std::string name;  // that --optimizer takes
  // Options of a run that mean something to it and not to all: "momentum". Giving another's is an error.
  std::vector<std::string> options;
  std::vector<std::pair<std::string, std::string>> defaults;  // of options of the run, where not the table's
  std::unique_ptr<Optimizer> (*make)(const RunOptions& options);
};
std::span<const OptimizerFamily> optimizer_families();
// Of options.optimizer; Error (kUsage) for an unknown one.
const OptimizerFamily& optimizer_family(const RunOptions& options);
std::unique_ptr<Optimizer> make_optimizer(const RunOptions& options);
// Throws Error (kUsage) where options of the optimizer contradict each other.
void check_optimizer_options(const RunOptions& options);

// One file each.
std::unique_ptr<Optimizer> make_adamw(const RunOptions& options);
std::unique_ptr<Optimizer> make_adamw8bit(const RunOptions& options);
std::unique_ptr<Optimizer> make_lion(const RunOptions& options);
std::unique_ptr<Optimizer> make_sgd(const RunOptions& options);

// --- for these files ---
inline constexpr uint64_t kElementsPerTask = 32768;
// The two entries of a block with the planes `planes`.
stream::BlockPlanes entries_of(const RunOptions& options, const std::vector<storage::Plane>& planes);
// Where a plane lies in them.
template <typename Element>
Element* plane_of(const storage::BlockLayout& block, stream::BlockPlanes entries, uint32_t plane,
                  std::byte* weights, std::byte* moments) {
  std::byte* at = plane < entries.weight_planes
                      ? weights + block.planes[plane].offset
                      : moments + (block.planes[plane].offset - block.planes[entries.weight_planes].offset);
  return reinterpret_cast<Element*>(at);
}
math::GradientTerms gradient_terms(const RunOptions& options, const OptimizerStep& step, bool decay);

}  // namespace headrace::train

// Magnitude pruning while training. At some steps the smallest weights of each matrix are chosen, exactly, by
// operations of the recorded schedule; they are pruned when the optimizer updates that step, and stay so: a
// pruned weight is -0.0 (engine/math/updates.h), so the mask is part of the weights and needs no state.
//
// How many follows the polynomial schedule of Zhu and Gupta (2017): with b = --prune-begin, e = --prune-end,
// at the steps b, b + every, ... and e the sparsity becomes
//   s = final + (initial - final) (1 - (step - b) / (e - b))^3,
// and round(s n) weights of a matrix of n are pruned, ties by their index. One shot where e = b. What was
// pruned before counts and stays.
//
// The choice at a step is among the weights before it, and a function of these alone: the same whatever the
// budget, the blocks and the threads, and after a crash, when it is made again.
#pragma once

#include <cstdint>
#include <vector>

#include "engine/stream/context.h"
#include "engine/train/model.h"
#include "engine/train/options.h"

namespace headrace::train {

// What --prune-sparsity and its companions say; pure arithmetic.
bool prunes_at(const RunOptions& options, uint64_t step);
double sparsity_at(const RunOptions& options, uint64_t step);  // that the schedule has reached with the step
// Throws Error (kUsage) where these options contradict each other.
void check_pruning_options(const RunOptions& options);

class Pruner {
 public:
  Pruner() = default;  // prunes nothing
  // Which tensors: trained matrices; embeddings only if the options say so.
  Pruner(const Model& model, const storage::Layout& layout, const RunOptions& options);

  bool prunes_at(uint64_t step) const { return train::prunes_at(options_, step); }
  bool prunes_ever() const;
  // The tensors that are pruned: of these the gradients of pruned weights must be masked.
  const std::vector<bool>& tensors() const { return tensors_; }

  // Chooses what is pruned with `step`. Operations of its own, before those of the step.
  void choose(stream::Context& context, uint64_t step);
  void choose_all(stream::Context& context);  // the same operations, for planning
  // Prunes what was chosen for `step`, if something was, in the two entries of a block. Any thread, different
  // blocks at the same time.
  void apply(uint64_t step, stream::BlockPlanes planes, const storage::BlockLayout& block, std::byte* weights,
             std::byte* moments) const;

 private:
  struct Choice {
    uint64_t step = 0;  // 0: none
    uint32_t key = 0;
    uint64_t ties = 0;
  };
  using Counter = void (*)(const math::WeightView& weight, uint32_t upper, std::span<uint32_t> counts);

  uint64_t wanted(storage::TensorId tensor, uint64_t step) const;
  void add_up(stream::Context& context, const stream::Parameter& parameter, const stream::Tensor& counts,
              const Choice& choice, Counter counter);
  void choose(stream::Context& context, storage::TensorId tensor, uint64_t step);

  RunOptions options_;
  const storage::Layout* layout_ = nullptr;
  std::vector<bool> tensors_;
  std::vector<Choice> choices_;  // by tensor
  std::vector<uint64_t> ties_;   // by block: of the choice's key, to be pruned there
};

}  // namespace headrace::train

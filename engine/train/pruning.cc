#include "engine/train/pruning.h"

#include <algorithm>
#include <cmath>
#include <mutex>

#include <fmt/format.h>

#include "engine/math/magnitude.h"
#include "storage/error.h"

namespace headrace::train {

using math::kMagnitudeBins;
using stream::BlockRows;
using stream::Context;
using stream::Parameter;
using stream::Tensor;
using stream::Work;
using stream::Workspace;

namespace {

uint64_t end_of(const RunOptions& options) {
  return options.prune_end == 0 ? options.prune_begin : options.prune_end;
}

std::span<uint64_t> bins_of(const Context& context, const Tensor& counts) {
  return {reinterpret_cast<uint64_t*>(context.matrix(counts).data), kMagnitudeBins};
}

}  // namespace

bool prunes_at(const RunOptions& options, uint64_t step) {
  if (options.prune_sparsity == 0 || step < options.prune_begin || step > end_of(options)) return false;
  return step == end_of(options) || (step - options.prune_begin) % options.prune_every == 0;
}

double sparsity_at(const RunOptions& options, uint64_t step) {
  const uint64_t begin = options.prune_begin, end = end_of(options);
  if (options.prune_sparsity == 0 || step < begin) return 0;
  if (step >= end) return options.prune_sparsity;
  const uint64_t last = step - (step - begin) % options.prune_every;  // the last step that pruned
  const double left = 1 - double(last - begin) / double(end - begin);
  return options.prune_sparsity + (options.prune_initial - options.prune_sparsity) * (left * left * left);
}

void check_pruning_options(const RunOptions& options) {
  const RunOptions defaults;
  const auto fail = [](const std::string& problem, const std::string& advice) {
    throw Error(ErrorKind::kUsage, problem, advice);
  };
  if (options.prune_sparsity == 0) {
    const bool others = options.prune_initial != defaults.prune_initial ||
                        options.prune_begin != defaults.prune_begin ||
                        options.prune_end != defaults.prune_end ||
                        options.prune_every != defaults.prune_every || options.prune_embeddings;
    if (others)
      fail(
          "there are options of pruning, and no --prune-sparsity",
          "say with --prune-sparsity which share of the weights shall be pruned, as 0.9, or leave the others "
          "out");
    return;
  }
  if (options.prune_end != 0 && options.prune_end < options.prune_begin)
    fail(fmt::format("--prune-end {} is before --prune-begin {}", options.prune_end, options.prune_begin),
         "give a later --prune-end, or leave it out to prune all at once");
  if (options.prune_initial > options.prune_sparsity)
    fail(fmt::format("--prune-initial {} is above --prune-sparsity {}", options.prune_initial,
                     options.prune_sparsity),
         "give a --prune-initial of at most --prune-sparsity: what is pruned stays so");
  if (options.prune_initial != 0 && end_of(options) == options.prune_begin)
    fail("--prune-initial was given, and pruning happens at one step",
         "say with --prune-end when the final sparsity is to be reached");
}

Pruner::Pruner(const Model& model, const storage::Layout& layout, const RunOptions& options)
    : options_(options),
      layout_(&layout),
      tensors_(layout.tensors().size()),
      choices_(layout.tensors().size()),
      ties_(layout.blocks().size()) {
  for (storage::TensorId id = 0; id < tensors_.size(); id++)
    tensors_[id] = options.prune_sparsity > 0 && layout.tensor(id).slots == 2 &&
                   layout.tensor(id).columns > 1 && !model.is_state(id) &&
                   (options.prune_embeddings || !model.is_embedding(id));
}

bool Pruner::prunes_ever() const {
  return std::find(tensors_.begin(), tensors_.end(), true) != tensors_.end();
}

uint64_t Pruner::wanted(storage::TensorId tensor, uint64_t step) const {
  const uint64_t elements = layout_->tensor(tensor).rows * layout_->tensor(tensor).columns;
  return std::min(elements, uint64_t(std::nearbyint(sparsity_at(options_, step) * double(elements))));
}

void Pruner::choose(Context& context, uint64_t step) {
  if (!prunes_at(step)) return;
  for (storage::TensorId tensor = 0; tensor < tensors_.size(); tensor++)
    if (tensors_[tensor]) choose(context, tensor, step);
}

void Pruner::choose_all(Context& context) { choose(context, options_.prune_begin); }

// Adds up what `counter` counts of each block. Blocks count for themselves, side by side.
void Pruner::add_up(Context& context, const Parameter& parameter, const Tensor& counts, const Choice& choice,
                    Counter counter) {
  context.compute({.writes = {counts}}, [&](Workspace) { std::ranges::fill(bins_of(context, counts), 0); });
  std::mutex mutex;
  context.forward(
      {.weight = parameter,
       .exact = true,
       .work =
           [&](const BlockRows&, size_t) {
             return Work{.writes = {counts}, .workspace_bytes = kMagnitudeBins * sizeof(uint32_t)};
           },
       .run =
           [&](const BlockRows&, const math::WeightView& w, size_t, Workspace workspace) {
             const std::span<uint32_t> own(reinterpret_cast<uint32_t*>(workspace.data()), kMagnitudeBins);
             std::ranges::fill(own, 0);
             counter(w, choice.key >> 16, own);
             const std::lock_guard lock(mutex);
             const std::span<uint64_t> all = bins_of(context, counts);
             for (size_t bin = 0; bin < own.size(); bin++) all[bin] += own[bin];
           }});
}

void Pruner::choose(Context& context, storage::TensorId tensor, uint64_t step) {
  const Parameter parameter{.tensor = tensor,
                            .rows = int64_t(layout_->tensor(tensor).rows),
                            .columns = int64_t(layout_->tensor(tensor).columns)};
  const storage::BlockId first = layout_->first_block(tensor);
  const Tensor counts = context.tensor(1, 2 * kMagnitudeBins);
  Choice choice{.step = step};
  uint64_t left = wanted(tensor, step);  // of them, not below the part of the key that is found
  const auto find = [&](uint32_t shift) {
    context.compute({.reads = {counts}}, [&, shift](Workspace) {
      const math::MagnitudeBin found = math::find_bin(bins_of(context, counts), left);
      choice.key |= found.bin << shift;
      left -= std::min(left, found.before);
    });
  };
  add_up(
      context, parameter, counts, choice,
      [](const math::WeightView& w, uint32_t, std::span<uint32_t> bins) { math::count_upper_keys(w, bins); });
  find(16);
  add_up(context, parameter, counts, choice,
         [](const math::WeightView& w, uint32_t upper, std::span<uint32_t> bins) {
           math::count_lower_keys(w, upper, bins);
         });
  find(0);
  context.forward({.weight = parameter,
                   .exact = true,
                   .work = [](const BlockRows&, size_t) { return Work{}; },
                   .run = [&](const BlockRows& rows, const math::WeightView& w, size_t,
                              Workspace) { ties_[rows.block] = math::count_key(w, choice.key); }});
  // By now all updates of the step before are done, which may have needed the choice before.
  context.compute({.reads = {counts}}, [&](Workspace) {
    for (storage::BlockId block = first; block < first + layout_->block_count(tensor); block++) {
      ties_[block] = std::min(ties_[block], left);
      left -= ties_[block];
    }
    choices_[tensor] = choice;
  });
}

void Pruner::apply(uint64_t step, stream::BlockPlanes planes, const storage::BlockLayout& block,
                   std::byte* weights, std::byte* moments) const {
  if (tensors_.empty() || !tensors_[block.tensor] || choices_[block.tensor].step != step) return;
  const Choice& choice = choices_[block.tensor];
  // The low plane is the first of the second entry where the products take the high one alone.
  std::byte* low = planes.weight_planes > 1 ? weights + block.planes[1].offset : moments;
  math::prune_smallest(choice.key, ties_[block.id], int64_t(block.elements),
                       reinterpret_cast<uint16_t*>(weights), reinterpret_cast<uint16_t*>(low));
}

}  // namespace headrace::train

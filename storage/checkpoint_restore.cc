#include "storage/checkpoint_restore.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <utility>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::storage {
namespace {

// In words; empty where a tensor of the checkpoint can fill one of the model.
std::string difference(const TensorSpec& saved, const TensorSpec& wanted, bool weights_only) {
  if (saved.rows != wanted.rows || saved.columns != wanted.columns)
    return fmt::format("is [{}, {}] in the checkpoint and [{}, {}] in the model", saved.rows, saved.columns,
                       wanted.rows, wanted.columns);
  if (saved.parts != wanted.parts) return "has other parts in the checkpoint than in the model";
  const auto planes_of = [&](const TensorSpec& tensor) {
    std::span<const Plane> planes = tensor.planes;
    while (weights_only && !planes.empty() && !is_weight_plane(planes.back()))
      planes = planes.first(planes.size() - 1);
    return planes;
  };
  const auto a = planes_of(saved), b = planes_of(wanted);
  const bool same_planes = std::equal(a.begin(), a.end(), b.begin(), b.end());
  return same_planes ? "" : "has other planes in the checkpoint than in the model";
}

[[noreturn]] void refuse(const CheckpointReader& checkpoint, const std::string& why) {
  throw Error(ErrorKind::kUsage, fmt::format("{} is of another model: {}", checkpoint.path(), why),
              "Take a checkpoint of this model, or restore without naming a model");
}

}  // namespace

CheckpointContent::CheckpointContent(const CheckpointReader& checkpoint, const Layout& layout,
                                     bool weights_only)
    : checkpoint_(checkpoint),
      layout_(layout),
      weights_only_(weights_only || checkpoint.manifest().weights_only) {
  std::unordered_map<std::string, TensorId> by_name;
  const std::span<const TensorSpec> saved = checkpoint.layout().tensors();
  for (TensorId id = 0; id < saved.size(); id++) by_name[saved[id].name] = id;
  for (const TensorSpec& tensor : layout.tensors()) {
    const auto found = by_name.find(tensor.name);
    if (found == by_name.end())
      refuse(checkpoint, fmt::format("it has no tensor '{}'", printable(tensor.name)));
    const std::string differs = difference(saved[found->second], tensor, weights_only_);
    if (!differs.empty()) refuse(checkpoint, fmt::format("tensor '{}' {}", printable(tensor.name), differs));
    source_.push_back(found->second);
    by_name.erase(found);
  }
  if (!by_name.empty())
    refuse(checkpoint, fmt::format("the model has no tensor '{}'", printable(by_name.begin()->first)));
}

std::unique_ptr<CheckpointReader::Workspace> CheckpointContent::take_workspace() {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<CheckpointReader::Workspace>();
  std::unique_ptr<CheckpointReader::Workspace> workspace = std::move(idle_.back());
  idle_.pop_back();
  return workspace;
}

uint32_t CheckpointContent::fill(const BlockLayout& block, std::span<std::byte> payload) {
  const TensorSpec& tensor = layout_.tensor(block.tensor);
  std::unique_ptr<CheckpointReader::Workspace> workspace = take_workspace();
  uint32_t filled = 0;
  for (uint32_t p = 0; p < tensor.planes.size(); p++) {
    if (weights_only_ && !is_weight_plane(tensor.planes[p])) continue;
    checkpoint_.read(source_[block.tensor], p, block.first_row * tensor.columns,
                     payload.subspan(block.planes[p].offset, block.planes[p].bytes), *workspace);
    filled = p + 1;
  }
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(workspace));
  return filled;
}

}  // namespace headrace::storage

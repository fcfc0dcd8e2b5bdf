#include "tests/support/plan_checker.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <fmt/format.h>

namespace headrace::testing {

using stream::Access;
using stream::AccessMode;
using stream::OpIndex;
using stream::Placement;
using stream::PlacementId;
using stream::Plan;
using stream::Program;
using stream::Source;
using stream::SpillWrite;
using stream::WriteId;

namespace {

constexpr uint64_t kPage = 4096;

bool holds(const auto& list, const auto& value) {
  return std::find(list.begin(), list.end(), value) != list.end();
}

bool overlap(const stream::SpillExtent& a, const stream::SpillExtent& b) {
  return a.file == b.file && a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

}  // namespace

std::string PlanChecker::name(PlacementId id) const {
  const Placement& placement = stays_[id].placement;
  return fmt::format("placement {} (entry {}, [{}, +{}))", id, placement.entry, placement.offset,
                     placement.bytes);
}

void PlanChecker::add(const Program& program, const Plan& plan, stream::StoreWrites writes) {
  if (plan.first_placement != stays_.size()) fault("placements are not numbered on");
  for (const Placement& placement : plan.placements)
    stays_.push_back({.placement = placement, .uses = {}, .spills = {}});
  for (const SpillWrite& spill : plan.spills) {
    stays_[spill.placement].spills.push_back(spill);
    spills_.push_back(spill);
    write_after_.emplace_back(spill.id, spill.after_ops);
    const Placement& placement = stays_[spill.placement].placement;
    if (placement.entry != spill.entry || placement.offset != spill.offset || placement.bytes != spill.bytes)
      fault("a spill is not of " + name(spill.placement));
  }
  add_uses(program, plan, writes != stream::StoreWrites::kDeferred);
  everything_written_ = writes == stream::StoreWrites::kEverything;
  check_bytes(program, plan);
}

void PlanChecker::add_uses(const Program& program, const Plan& plan, bool at_once) {
  for (size_t i = 0; i < program.ops.size(); i++) {
    const stream::Op& op = program.ops[i];
    const bool update = op.kind == stream::OpKind::kUpdate;
    const bool written = plan.op_write[i] != 0;
    if (written != (update && at_once))
      fault(fmt::format("operation {} writes if and only if it updates, and at once", i));
    if (written) write_after_.emplace_back(plan.op_write[i], plan.first_op + i + 1);
    for (size_t a = op.first_access; const Access& access : program.accesses_of(op)) {
      const PlacementId id = plan.access_placement[a++];
      if (id >= stays_.size() || stays_[id].placement.entry != access.entry) {
        fault(fmt::format("operation {} does not find entry {}", plan.first_op + i, access.entry));
        continue;
      }
      const bool writes = written && access.mode != AccessMode::kRead && space_.stored(access.entry);
      stays_[id].uses.push_back({.op = plan.first_op + i,
                                 .mode = access.mode,
                                 .last = access.last,
                                 .write = writes ? plan.op_write[i] : 0});
    }
  }
}

void PlanChecker::check_bytes(const Program& program, const Plan& plan) {
  stream::PlannedBytes sum;
  for (const Placement& placement : plan.placements) {
    if (placement.source == Source::kStore) sum.store_read += placement.bytes;
    if (placement.source == Source::kSpill) sum.spill_read += placement.bytes;
  }
  for (const SpillWrite& spill : plan.spills)
    (space_.stored(spill.entry) ? sum.store_written : sum.spill_written) += spill.bytes;
  for (size_t i = 0; i < program.ops.size(); i++)
    for (const Access& access : program.accesses_of(program.ops[i]))
      if (plan.op_write[i] != 0 && space_.stored(access.entry))
        sum.store_written += sizes_.entry_bytes(access.entry);
  if (sum.store_read != plan.bytes.store_read || sum.store_written != plan.bytes.store_written ||
      sum.spill_read != plan.bytes.spill_read || sum.spill_written != plan.bytes.spill_written)
    fault("the planned bytes are not the sum of what is planned");
}

std::vector<std::string> PlanChecker::faults() {
  std::sort(spills_.begin(), spills_.end(),
            [](const SpillWrite& a, const SpillWrite& b) { return a.id < b.id; });
  check_memory();
  check_progress();
  check_content();
  check_spill_space();
  return std::move(faults_);
}

void PlanChecker::check_memory() {
  constexpr PlacementId kNobody = ~PlacementId{0};
  std::vector<PlacementId> owner(arena_bytes_ / kPage, kNobody);
  for (PlacementId id = 0; id < stays_.size(); id++) {
    const Placement& placement = stays_[id].placement;
    if (placement.offset % kPage != 0 || placement.bytes % kPage != 0 || placement.bytes == 0 ||
        placement.offset + placement.bytes > owner.size() * kPage) {
      fault(name(id) + " does not lie in the arena");
      continue;
    }
    std::set<PlacementId> before;
    for (uint64_t page = placement.offset / kPage; page < (placement.offset + placement.bytes) / kPage;
         page++) {
      if (owner[page] != kNobody) before.insert(owner[page]);
      owner[page] = id;
    }
    for (const PlacementId other : before) {
      const Stay& stay = stays_[other];
      WriteId last_write = 0;
      for (const Use& use : stay.uses) {
        if (use.op >= placement.after_ops)
          fault(fmt::format("{} begins while operation {} uses {}", name(id), use.op, name(other)));
        if (use.mode != AccessMode::kRead) last_write = use.write;  // 0: a commit came before this update
      }
      if (last_write != 0 && !holds(placement.after_writes, last_write))
        fault(name(id) + " does not wait for the block written from " + name(other));
      for (const SpillWrite& spill : stay.spills)
        if (!holds(placement.after_writes, spill.id))
          fault(name(id) + " does not wait for the spill of " + name(other));
      if (stay.uses.empty() && !holds(placement.after_placements, other))
        fault(name(id) + " does not wait for the unused " + name(other));
    }
  }
}

// First operation that uses a placement; one that nobody uses is needed by whoever waits for it.
OpIndex PlanChecker::first_use_from(PlacementId id) const {
  OpIndex first = stream::kNever;
  for (const Use& use : stays_[id].uses) first = std::min(first, use.op);
  return first;
}

void PlanChecker::check_progress() {
  std::map<WriteId, OpIndex> after(write_after_.begin(), write_after_.end());
  for (PlacementId id = 0; id < stays_.size(); id++) {
    const Placement& placement = stays_[id].placement;
    const OpIndex needed = first_use_from(id);
    if (placement.after_ops > needed) fault(name(id) + " begins after its first use");
    for (const WriteId write : placement.after_writes)
      if (!after.contains(write) || after.at(write) > needed)
        fault(fmt::format("{} waits for write {}, which comes later", name(id), write));
    for (const PlacementId other : placement.after_placements)
      if (other >= id || stays_[other].placement.after_ops > needed)
        fault(fmt::format("{} waits for placement {}, which comes later", name(id), other));
    for (const SpillWrite& spill : stays_[id].spills)
      for (const Use& use : stays_[id].uses)
        if (use.op >= spill.after_ops)
          fault(fmt::format("{} is spilled before operation {}", name(id), use.op));
  }
}

std::vector<std::vector<PlacementId>> PlanChecker::stays_by_entry() const {
  std::map<stream::EntryId, std::vector<PlacementId>> by_entry;
  for (PlacementId id = 0; id < stays_.size(); id++) by_entry[stays_[id].placement.entry].push_back(id);
  std::vector<std::vector<PlacementId>> lists;
  for (auto& [entry, list] : by_entry) lists.push_back(std::move(list));
  return lists;
}

void PlanChecker::check_content() {
  for (const std::vector<PlacementId>& stays : stays_by_entry()) check_content_of(stays);
}

// Follows the content of one entry from stay to stay.
void PlanChecker::check_content_of(const std::vector<PlacementId>& stays) {
  bool exists = false;          // of what is not stored
  bool only_in_memory = false;  // changed since it was spilled
  std::optional<SpillWrite> spilled;
  WriteId last_write = 0;
  OpIndex used = 0;  // operations up to the last use
  std::optional<PlacementId> unused;
  for (const PlacementId id : stays) {
    const Stay& stay = stays_[id];
    const Placement& placement = stay.placement;
    if (unused && !holds(placement.after_placements, *unused))
      fault(name(id) + " does not wait for the same entry's unused " + name(*unused));
    unused = stay.uses.empty() ? std::optional(id) : std::nullopt;
    if (placement.after_ops < used) fault(name(id) + " begins before the entry's earlier uses");
    switch (placement.source) {
      case Source::kCreated:
        if (exists || (!stay.uses.empty() && stay.uses.front().mode != AccessMode::kCreate))
          fault(name(id) + " forgets what the entry held");
        break;
      case Source::kStore:
        if (!space_.stored(placement.entry)) fault(name(id) + " is not in the store");
        if (only_in_memory) fault(name(id) + " reads what was never written");
        if (last_write != 0 && !holds(placement.after_writes, last_write))
          fault(name(id) + " may read old content");
        break;
      case Source::kSpill:
        if (!exists || !spilled || only_in_memory || spilled->extent.offset != placement.spill.offset ||
            spilled->extent.file != placement.spill.file || spilled->extent.bytes != placement.spill.bytes)
          fault(name(id) + " is not what was spilled");
        else if (!holds(placement.after_writes, spilled->id))
          fault(name(id) + " does not wait for its own spill");
        break;
    }
    for (const Use& use : stay.uses) {
      if (use.op + 1 < used) fault(name(id) + " is used in between");
      used = use.op + 1;
      if (use.write != 0) last_write = use.write;
      if (use.mode != AccessMode::kRead) exists = true, only_in_memory = use.write == 0;
      if (use.last) exists = false;
    }
    for (const SpillWrite& spill : stay.spills) {
      spilled = spill;
      only_in_memory = false;
      last_write = spill.id;
    }
    if (stay.spills.size() > 1) fault(name(id) + " is spilled twice");
  }
  const stream::EntryId entry = stays_[stays.front()].placement.entry;
  if (everything_written_ && only_in_memory && space_.stored(entry))
    fault(fmt::format("entry {} was never written to the store", entry));
}

// Whoever reads an extent has done so before it is written again.
void PlanChecker::check_spill_space() {
  const std::vector<std::vector<PlacementId>> by_entry = stays_by_entry();
  for (size_t i = 0; i < spills_.size(); i++) {
    const SpillWrite& spill = spills_[i];
    if (space_.stored(spill.entry)) continue;
    const auto of_entry =
        std::find_if(by_entry.begin(), by_entry.end(), [&](const std::vector<PlacementId>& list) {
          return stays_[list.front()].placement.entry == spill.entry;
        });
    OpIndex last_read = 0;
    for (const PlacementId id : *of_entry) {
      if (id <= spill.placement) continue;
      const Stay& stay = stays_[id];
      if (stay.placement.source != Source::kSpill || stay.placement.spill.offset != spill.extent.offset)
        break;
      if (!stay.uses.empty()) last_read = stay.uses.front().op + 1;
      if (!stay.spills.empty()) break;
    }
    for (size_t j = i + 1; j < spills_.size(); j++)
      if (!space_.stored(spills_[j].entry) && overlap(spill.extent, spills_[j].extent) &&
          spills_[j].after_ops < last_read)
        fault(fmt::format("spill {} overwrites spill {} before it is read", spills_[j].id, spill.id));
  }
}

}  // namespace headrace::testing

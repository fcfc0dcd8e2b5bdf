#include "engine/stream/cache.h"

#include <fmt/format.h>

#include <algorithm>

#include "storage/error.h"

namespace headrace::stream {

namespace {

constexpr uint64_t kAlignment = storage::kPlaneAlignment;

uint64_t size_of(EntryId entry, const Program& program, const EntrySpace& space, const EntrySizes& sizes) {
  return space.kind(entry) == EntryKind::kTemporary ? program.temporary_bytes[space.temporary_index(entry)]
                                                    : sizes.entry_bytes(entry);
}

}  // namespace

uint64_t CachePlanner::placed_bytes(uint64_t bytes) {
  return std::max<uint64_t>(1, (bytes + kAlignment - 1) / kAlignment) * kAlignment;
}

uint64_t CachePlanner::least_arena_bytes(const Program& program, const EntrySpace& space,
                                         const EntrySizes& sizes) {
  uint64_t least = 0;
  for (const Op& op : program.ops) {
    uint64_t sum = 0;
    for (const Access& access : program.accesses_of(op))
      sum += placed_bytes(size_of(access.entry, program, space, sizes));
    least = std::max(least, sum);
  }
  return least;
}

CachePlanner::CachePlanner(const EntrySpace& space, const EntrySizes& sizes, const CacheOptions& options,
                           SpillSpace* spill_space)
    : space_(space), sizes_(sizes), options_(options), spill_space_(spill_space) {
  segments_.push_back({.offset = 0, .bytes = options.arena_bytes / kAlignment * kAlignment});
}

Plan CachePlanner::plan(const Program& program, const Program* next, StoreWrites writes) {
  start(program, next);
  writes_ = writes;
  const OpIndex end = first_op_ + program.ops.size();
  for (OpIndex op = first_op_; op < end; op++) {
    place_operation(op);
    create_ahead(op);
    prefetch(op);
    complete(op);
  }
  first_op_ = end;
  if (writes == StoreWrites::kEverything)
    for (const Segment& segment : segments_)
      if (segment.entry != kNoEntry && space_.stored(segment.entry) && residents_[segment.entry].dirty)
        write_out(segment.entry);
  std::stable_sort(plan_.spills.begin(), plan_.spills.end(),
                   [](const SpillWrite& a, const SpillWrite& b) { return a.after_ops < b.after_ops; });
  program_ = next_ = nullptr;
  return std::move(plan_);
}

void CachePlanner::discard_future() {
  for (EntryId entry = space_.size(0); entry < residents_.size(); entry++)
    if (residents_[entry].resident) release(entry);
}

void CachePlanner::start(const Program& program, const Program* next) {
  program_ = &program;
  next_ = next;
  end_op_ = first_op_ + program.ops.size() + (next ? next->ops.size() : 0);
  fetch_head_ = first_op_;
  const size_t temporaries =
      std::max(program.temporary_bytes.size(), next ? next->temporary_bytes.size() : 0);
  if (residents_.size() < space_.size(temporaries)) residents_.resize(space_.size(temporaries));
  plan_ = Plan{};
  plan_.first_op = first_op_;
  plan_.first_placement = placement_count_;
  plan_.access_placement.resize(program.accesses.size());
  plan_.op_write.resize(program.ops.size());
  link_uses();
}

// Fills next_use_, and every resident's next use.
void CachePlanner::link_uses() {
  for (Resident& resident : residents_) resident.next_use = kNever;
  const size_t own = program_->accesses.size();
  next_use_.assign(own + (next_ ? next_->accesses.size() : 0), kNever);
  for (OpIndex op = end_op_; op-- > first_op_;) {
    const std::span<const Access> list = accesses(op);
    const size_t base = op_at(op).first_access + (op - first_op_ < program_->ops.size() ? 0 : own);
    for (size_t i = list.size(); i-- > 0;) {
      Resident& resident = residents_[list[i].entry];
      next_use_[base + i] = resident.next_use;
      resident.next_use = op;
    }
  }
}

const Program& CachePlanner::program_of(OpIndex op) const {
  return op - first_op_ < program_->ops.size() ? *program_ : *next_;
}

const Op& CachePlanner::op_at(OpIndex op) const {
  const OpIndex index = op - first_op_;
  return index < program_->ops.size() ? program_->ops[index] : next_->ops[index - program_->ops.size()];
}

std::span<const Access> CachePlanner::accesses(OpIndex op) const {
  return program_of(op).accesses_of(op_at(op));
}

uint64_t CachePlanner::bytes_of(const Access& access, OpIndex op) const {
  return size_of(access.entry, program_of(op), space_, sizes_);
}

void CachePlanner::place_operation(OpIndex op) {
  for (const Access& access : accesses(op)) {
    if (residents_[access.entry].resident) continue;
    if (place(access, op, false) || place(access, op, true)) continue;
    place_after_clearing(op);
    break;
  }
  const size_t base = op_at(op).first_access;
  for (size_t i = 0; const Access& access : accesses(op))
    plan_.access_placement[base + i++] = residents_[access.entry].placement;
}

// Gives entries that the next few operations create their memory, so that these can begin before `op` ends.
// Not those whose earlier content is still to be read: a gradient that an update uses up just before the next
// begins.
void CachePlanner::create_ahead(OpIndex op) {
  const OpIndex last = std::min(end_op_ - 1, op + options_.create_ahead_ops);
  for (OpIndex ahead = op + 1; ahead <= last; ahead++)
    for (const Access& access : accesses(ahead))
      if (const Resident& resident = residents_[access.entry];
          access.mode == AccessMode::kCreate && !resident.resident && resident.next_use == ahead)
        if (!place(access, ahead, false)) return;
}

void CachePlanner::prefetch(OpIndex op) {
  fetch_head_ = std::max(fetch_head_, op + 1);
  for (; fetch_head_ < end_op_; fetch_head_++) {
    for (const Access& access : accesses(fetch_head_)) {
      const Resident& resident = residents_[access.entry];
      if (resident.resident || access.mode == AccessMode::kCreate) continue;
      if (!space_.stored(access.entry) && !resident.spilled) continue;  // comes into being before then
      if (prefetched_bytes_ + placed_bytes(bytes_of(access, fetch_head_)) > options_.prefetch_bytes) return;
      if (!place(access, fetch_head_, false)) return;
    }
  }
}

bool CachePlanner::place(const Access& access, OpIndex op, bool may_disturb_writes) {
  const uint64_t bytes = placed_bytes(bytes_of(access, op));
  std::optional<Window> window = free_window(bytes);
  if (!window) window = victim_window(bytes, op, may_disturb_writes);
  if (!window) return false;
  settle(*window, access, bytes);
  return true;
}

// The arena's pieces lie so that the operation's entries do not fit between them: moves everything out and
// places them side by side. Costs traffic, and happens only where the arena is nearly as small as the
// operation.
void CachePlanner::place_after_clearing(OpIndex op) {
  uint64_t needed = 0;
  for (const Access& access : accesses(op)) needed += placed_bytes(bytes_of(access, op));
  const uint64_t arena = options_.arena_bytes / kAlignment * kAlignment;
  if (needed > arena)
    throw Error(ErrorKind::kRefused,
                fmt::format("one operation needs {} bytes at once, and {} are there", needed, arena),
                "give a larger --memory");
  for (Segment& segment : segments_)
    if (segment.entry != kNoEntry) evict(segment);
  for (const Access& access : accesses(op)) {
    if (residents_[access.entry].resident) continue;
    const bool placed = place(access, op, true);
    HEADRACE_CHECK(placed, "an operation does not fit an empty arena");
  }
}

// The smallest run of free memory that is large enough.
std::optional<CachePlanner::Window> CachePlanner::free_window(uint64_t bytes) const {
  std::optional<Window> best;
  uint64_t best_bytes = ~uint64_t{0};
  for (size_t first = 0; first < segments_.size(); first++) {
    if (segments_[first].entry != kNoEntry) continue;
    uint64_t run = 0;
    size_t last = first, enough = 0;  // enough: the end of the first segments that suffice
    for (; last < segments_.size() && segments_[last].entry == kNoEntry; last++) {
      run += segments_[last].bytes;
      if (run >= bytes && enough == 0) enough = last + 1;
    }
    if (enough != 0 && run < best_bytes) best = Window{first, enough}, best_bytes = run;
    first = last;
  }
  return best;
}

bool CachePlanner::may_evict(const Segment& segment, OpIndex op, bool may_disturb_writes) const {
  if (segment.entry == kNoEntry) return true;
  const Resident& resident = residents_[segment.entry];
  if (resident.next_use <= op) return false;
  const bool being_written = resident.last_write != 0 && resident.written_at != 0 &&
                             written_bytes_ - resident.written_at < options_.write_behind_bytes;
  return may_disturb_writes || !being_written;
}

// What giving up a segment costs, by the rule; smaller is better.
double CachePlanner::cost(const Segment& segment, OpIndex op) const {
  if (segment.entry == kNoEntry) return 0;
  const Resident& resident = residents_[segment.entry];
  if (options_.rule == VictimRule::kLeastRecentlyUsed) return 1 + double(resident.used_ops);
  if (resident.next_use == kNever) return 0;
  const double near = 1 / double(resident.next_use - op);
  if (options_.rule == VictimRule::kFarthest) return near;
  const bool twice = options_.rule == VictimRule::kCheapestDirty && resident.dirty;
  return near * double(segment.bytes) * (twice ? 2 : 1);
}

// Of all runs of segments that are large enough, the one that costs the least: the largest cost of its
// segments, or their sum, by the rule; of equals, the one that gives up the fewest bytes.
std::optional<CachePlanner::Window> CachePlanner::victim_window(uint64_t bytes, OpIndex op,
                                                                bool may_disturb_writes) const {
  const bool sums = options_.rule == VictimRule::kCheapest || options_.rule == VictimRule::kCheapestDirty;
  std::optional<Window> best;
  double best_cost = 0;
  uint64_t best_lost = 0;
  for (size_t first = 0; first < segments_.size(); first++) {
    double window_cost = 0;
    uint64_t run = 0, lost = 0;
    for (size_t last = first; last < segments_.size(); last++) {
      const Segment& segment = segments_[last];
      if (!may_evict(segment, op, may_disturb_writes)) break;
      const double segment_cost = cost(segment, op);
      window_cost = sums ? window_cost + segment_cost : std::max(window_cost, segment_cost);
      if (best && window_cost > best_cost) break;
      run += segment.bytes;
      if (segment.entry != kNoEntry) lost += segment.bytes;
      if (run < bytes) continue;
      if (!best || window_cost < best_cost || lost < best_lost) {
        best = Window{first, last + 1};
        best_cost = window_cost;
        best_lost = lost;
      }
      break;
    }
  }
  return best;
}

void CachePlanner::settle(const Window& window, const Access& access, uint64_t bytes) {
  Resident& resident = residents_[access.entry];
  Placement placement;
  placement.entry = access.entry;
  placement.offset = segments_[window.first].offset;
  placement.bytes = bytes;
  placement.after_ops = resident.used_ops;  // of its stay in memory before this one
  if (resident.fetched_for_nothing != 0)
    placement.after_placements.push_back(resident.fetched_for_nothing - 1);
  uint64_t run = 0;
  for (size_t i = window.first; i < window.last; i++) {
    Segment& segment = segments_[i];
    if (segment.entry != kNoEntry) evict(segment);
    placement.after_ops = std::max(placement.after_ops, segment.after_ops);
    if (segment.after_write != 0) placement.after_writes.push_back(segment.after_write);
    if (segment.after_placement != 0) placement.after_placements.push_back(segment.after_placement - 1);
    run += segment.bytes;
  }
  if (access.mode != AccessMode::kCreate) {
    const bool stored = space_.stored(access.entry);
    HEADRACE_CHECK(stored || resident.spilled, "an entry is read before it is created");
    placement.source = stored ? Source::kStore : Source::kSpill;
    placement.spill = resident.extent;
    if (resident.last_write != 0) placement.after_writes.push_back(resident.last_write);
    (stored ? plan_.bytes.store_read : plan_.bytes.spill_read) += bytes;
  }

  Segment rest = segments_[window.last - 1];
  rest.bytes = run - bytes;
  rest.offset = placement.offset + bytes;
  auto at = segments_.erase(segments_.begin() + ptrdiff_t(window.first),
                            segments_.begin() + ptrdiff_t(window.last));
  at = segments_.insert(at, Segment{.offset = placement.offset, .bytes = bytes, .entry = access.entry});
  if (rest.bytes > 0) segments_.insert(at + 1, rest);

  resident.resident = true;
  resident.placement = placement_count_++;
  resident.offset = placement.offset;
  resident.bytes = bytes;
  resident.dirty = false;
  resident.unused = true;
  resident.prefetched = placement.source != Source::kCreated;
  if (resident.prefetched) prefetched_bytes_ += bytes;
  plan_.placements.push_back(std::move(placement));
}

// Writes what exists nowhere else, after its last use so far.
void CachePlanner::write_out(EntryId entry) {
  Resident& resident = residents_[entry];
  resident.dirty = false;
  resident.last_write = ++write_count_;
  resident.written_at = 0;
  SpillWrite write{entry, resident.placement, resident.offset,    resident.bytes,
                   {},    resident.used_ops,  resident.last_write};
  if (space_.stored(entry)) {
    plan_.bytes.store_written += resident.bytes;
  } else {
    HEADRACE_CHECK(spill_space_ != nullptr, "nothing to spill to");
    resident.extent = write.extent = spill_space_->take(resident.bytes);
    resident.spilled = true;
    write.after_ops = std::max(write.after_ops, write.extent.after_ops);
    plan_.bytes.spill_written += resident.bytes;
  }
  plan_.spills.push_back(write);
}

// Makes the segment free; what exists nowhere else is written first. The caller merges.
void CachePlanner::evict(Segment& segment) {
  Resident& resident = residents_[segment.entry];
  if (resident.dirty) write_out(segment.entry);
  // What the cache fetched and gives up before its use must be fetched again.
  if (resident.next_use < fetch_head_) fetch_head_ = resident.next_use;
  segment.entry = kNoEntry;
  segment.after_ops = resident.unused ? 0 : resident.used_ops;
  segment.after_write = resident.last_write;
  segment.after_placement = resident.unused ? resident.placement + 1 : 0;
  resident.fetched_for_nothing = segment.after_placement;
  if (resident.prefetched) prefetched_bytes_ -= resident.bytes;
  resident.resident = resident.prefetched = resident.unused = false;
}

// Drops a dead entry and its spilled copy.
void CachePlanner::release(EntryId entry) {
  Resident& resident = residents_[entry];
  resident.dirty = false;
  if (resident.resident) {
    const size_t index = segment_at(resident.offset);
    evict(segments_[index]);
    merge_free(index);
  }
  if (resident.spilled) spill_space_->give_back(resident.extent, resident.used_ops);
  resident.spilled = false;
  resident.last_write = 0;
}

void CachePlanner::merge_free(size_t index) {
  const auto joinable = [](const Segment& a, const Segment& b) {
    return a.entry == kNoEntry && b.entry == kNoEntry && a.after_write == b.after_write &&
           a.after_placement == b.after_placement;
  };
  const auto join = [this](size_t into) {
    segments_[into].bytes += segments_[into + 1].bytes;
    segments_[into].after_ops = std::max(segments_[into].after_ops, segments_[into + 1].after_ops);
    segments_.erase(segments_.begin() + ptrdiff_t(into) + 1);
  };
  if (index + 1 < segments_.size() && joinable(segments_[index], segments_[index + 1])) join(index);
  if (index > 0 && joinable(segments_[index - 1], segments_[index])) join(index - 1);
}

size_t CachePlanner::segment_at(uint64_t offset) const {
  const auto found =
      std::lower_bound(segments_.begin(), segments_.end(), offset,
                       [](const Segment& segment, uint64_t value) { return segment.offset < value; });
  return size_t(found - segments_.begin());
}

void CachePlanner::complete(OpIndex op) {
  const Op& operation = op_at(op);
  WriteId write = 0;
  if (operation.kind == OpKind::kUpdate && writes_ != StoreWrites::kDeferred)
    write = plan_.op_write[op - first_op_] = ++write_count_;
  for (size_t i = operation.first_access; const Access& access : accesses(op)) {
    Resident& resident = residents_[access.entry];
    resident.next_use = next_use_[i++];
    resident.used_ops = op + 1;
    resident.unused = false;
    if (resident.prefetched) prefetched_bytes_ -= resident.bytes, resident.prefetched = false;
    if (access.mode != AccessMode::kRead && space_.stored(access.entry)) {
      resident.dirty = write == 0;
      if (resident.dirty) continue;
      const uint64_t bytes = bytes_of(access, op);
      plan_.bytes.store_written += bytes;
      written_bytes_ += bytes;
      resident.last_write = write;
      resident.written_at = written_bytes_;
    } else if (access.mode != AccessMode::kRead) {
      resident.dirty = true;
      if (resident.spilled) spill_space_->give_back(resident.extent, op + 1);
      resident.spilled = false;
    }
    if (access.last) release(access.entry);
  }
}

}  // namespace headrace::stream

#include "engine/stream/streamer.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>
#include <oneapi/tbb/blocked_range.h>

#include "engine/math/parallel.h"
#include "storage/checksum.h"
#include "storage/error.h"

namespace headrace::stream {

namespace {

constexpr uint64_t kWriteTag = uint64_t{1} << 63;  // with a WriteId: a spill
constexpr uint64_t kStoreWriteTag = uint64_t{3}
                                    << 62;  // with a WriteId: a block; else an entry that is fetched
constexpr size_t kBeginWindow = 64;         // placements looked at beyond the first that cannot begin yet

storage::ChunkIdentity spill_identity(EntryId entry) {
  return {.object = entry, .slot = storage::kSpillSlot, .chunk = 0, .step = 0};
}

}  // namespace

Streamer::Streamer(const Parts& parts) : parts_(parts) {}

Streamer::~Streamer() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return in_flight_ == 0; });
}

void Streamer::begin(const Program& program, Plan plan) {
  {
    std::lock_guard lock(mutex_);
    HEADRACE_CHECK(program_ == nullptr || completed_ops_ == plan.first_op,
                   "a program begins before the last ended");
    program_ = &program;
    plan_ = std::move(plan);
    next_spill_ = 0;
    completed_ops_ = plan_.first_op;
    completed_.assign(program.ops.size(), false);
    for (size_t i = 0; i < plan_.placements.size(); i++) {
      const PlacementId id = plan_.first_placement + i;
      const EntryId entry = plan_.placements[i].entry;
      if (entry >= entries_.size()) entries_.resize(size_t(entry) + 1);
      unfinished_placements_.insert(id);
      queue_.emplace_back(id, std::move(plan_.placements[i]));
    }
    for (const SpillWrite& write : plan_.spills) unfinished_writes_[write.id] = 1;
    for (const WriteId id : plan_.op_write)
      if (id != 0) unfinished_writes_[id] = parts_.planes.has_moments() ? 2 : 1;
  }
  go_on();
}

Streamer::Needed Streamer::needed(OpIndex op) const {
  const Op& operation = program_->ops[op - plan_.first_op];
  return {.accesses = program_->accesses_of(operation),
          .placements = {plan_.access_placement.data() + operation.first_access, operation.access_count},
          .update = operation.kind == OpKind::kUpdate};
}

bool Streamer::loaded(const Needed& operation) const {
  if (fault_) return true;
  if (operation.update && committing_) return false;
  for (size_t i = 0; i < operation.accesses.size(); i++) {
    const EntryState& entry = entries_[operation.accesses[i].entry];
    if (entry.placement != operation.placements[i] || !entry.loaded) return false;
    if (entry.check == Check::kUnderWay) return false;
  }
  return true;
}

void Streamer::acquire(OpIndex op, bool suspend) {
  const Needed operation = needed(op);
  std::vector<EntryId> unverified;
  while (!claim(operation, unverified)) wait_until_loaded(operation, suspend);
  if (unverified.empty()) return;
  run_isolated([&] {
    for (const EntryId entry : unverified) verify_entry(entry);
  });
  std::lock_guard lock(mutex_);
  for (const EntryId entry : unverified) entries_[entry].check = Check::kDone;
  waiters_.wake();
}

// False while the operation must wait. Otherwise its entries are loaded, and those in `unverified` are the
// caller's to verify: until it has, no other operation may touch them.
bool Streamer::claim(const Needed& operation, std::vector<EntryId>& unverified) {
  std::lock_guard lock(mutex_);
  if (fault_) std::rethrow_exception(fault_);
  if (!loaded(operation)) return false;
  for (const Access& access : operation.accesses) {
    EntryState& entry = entries_[access.entry];
    if (entry.check != Check::kDue) continue;
    entry.check = Check::kUnderWay;
    unverified.push_back(access.entry);
  }
  return true;
}

void Streamer::wait_until_loaded(const Needed& operation, bool suspend) {
  bool for_write = false;
  {
    std::lock_guard lock(mutex_);
    for (size_t i = 0; i < operation.accesses.size(); i++)
      for_write |= entries_[operation.accesses[i].entry].placement != operation.placements[i];
    for_write |= operation.update && committing_;
  }
  clock_.waiting(+1, for_write);
  waiters_.wait([&] { return loaded(operation); }, suspend);
  clock_.waiting(-1, for_write);
}

storage::PlaneRange Streamer::range_of(EntryId entry) const {
  const storage::BlockLayout& block = parts_.store.layout().block(parts_.space.block(entry));
  return parts_.space.kind(entry) == EntryKind::kWeights ? parts_.planes.weights(block)
                                                         : parts_.planes.moments(block);
}

void Streamer::verify_entry(EntryId id) {
  const EntryState& entry = entries_[id];
  if (entry.source == Source::kStore) {
    const BlockId block = parts_.space.block(id);
    const storage::PlaneRange range = range_of(id);
    const uint32_t chunks = storage::chunks_in_range(parts_.store.layout().block(block), range);
    math::parallel_ranges(oneapi::tbb::blocked_range<uint32_t>(0, chunks, 8), [&](const auto& part) {
      parts_.store.verify(block, range, entry.address, part.begin(), part.end() - part.begin());
    });
    return;
  }
  const std::span<const std::byte> data(entry.address, entry.bytes);
  const size_t chunk = storage::first_mismatch(spill_identity(id), data, entry.spill_checksums);
  if (chunk == entry.spill_checksums.size()) return;
  const uint64_t at = chunk * storage::kChecksumChunk;
  throw Error(
      ErrorKind::kCorrupt,
      fmt::format("the spill file in {}: the {} bytes at offset {} are not what was written",
                  parts_.store.shard_paths()[entry.spill.file],
                  std::min<uint64_t>(storage::kChecksumChunk, data.size() - at), entry.spill.offset + at),
      "nothing that was committed is affected; check the drive, then run the same command again");
}

void Streamer::complete(OpIndex op, BlockId block) {
  if (plan_.op_write[op - plan_.first_op] != 0) run_isolated([&] { write_block(op, block); });
  {
    std::lock_guard lock(mutex_);
    advance_completed(op);
  }
  go_on();
}

// Begins whatever need not wait any longer.
void Streamer::go_on() {
  std::vector<const SpillWrite*> due;
  {
    std::lock_guard lock(mutex_);
    for (; next_spill_ < plan_.spills.size() && plan_.spills[next_spill_].after_ops <= completed_ops_;
         next_spill_++)
      due.push_back(&plan_.spills[next_spill_]);
  }
  run_isolated([&] {
    for (const SpillWrite* write : due)
      parts_.space.stored(write->entry) ? write_entry(*write) : spill(*write);
  });
  std::vector<storage::IoRequest> requests;
  {
    std::lock_guard lock(mutex_);
    begin_ready_placements(requests);
    waiters_.wake();
  }
  submit(requests);
}

void Streamer::advance_completed(OpIndex op) {
  completed_[op - plan_.first_op] = true;
  while (completed_ops_ - plan_.first_op < completed_.size() && completed_[completed_ops_ - plan_.first_op])
    completed_ops_++;
}

// Checksums half of a block, its weights or moments, and returns the request that writes it.
storage::IoRequest Streamer::sealed(EntryId entry, const std::byte* data, WriteId id) {
  const BlockId block = parts_.space.block(entry);
  const storage::PlaneRange range = range_of(entry);
  const uint32_t chunks = storage::chunks_in_range(parts_.store.layout().block(block), range);
  math::parallel_ranges(oneapi::tbb::blocked_range<uint32_t>(0, chunks, 8), [&](const auto& part) {
    parts_.store.seal(block, range, data, part.begin(), part.end() - part.begin());
  });
  storage::IoRequest request = parts_.store.write_request(block, range, data);
  request.listener = this;
  request.tag = kStoreWriteTag | id;
  return request;
}

void Streamer::write_to_store(std::span<const storage::IoRequest> requests) {
  {
    std::lock_guard lock(mutex_);
    store_writes_ += uint32_t(requests.size());
    in_flight_ += uint32_t(requests.size());
  }
  submit(requests);
}

void Streamer::write_block(OpIndex op, BlockId block) {
  const WriteId id = plan_.op_write[op - plan_.first_op];
  const EntryId weights = parts_.space.weights(block), moments = parts_.space.moments(block);
  storage::IoRequest requests[2] = {sealed(weights, address(weights), id), {}};
  if (parts_.planes.has_moments()) requests[1] = sealed(moments, address(moments), id);
  write_to_store({requests, parts_.planes.has_moments() ? 2U : 1U});
}

// Half of a block that was updated a while ago and leaves memory.
void Streamer::write_entry(const SpillWrite& write) {
  const storage::IoRequest request = sealed(write.entry, parts_.arena.data() + write.offset, write.id);
  write_to_store({&request, 1});
}

void Streamer::spill(const SpillWrite& write) {
  EntryState& entry = entries_[write.entry];
  const std::span<const std::byte> data(parts_.arena.data() + write.offset, write.bytes);
  entry.spill_checksums.resize((data.size() + storage::kChecksumChunk - 1) / storage::kChecksumChunk);
  math::parallel_ranges(
      oneapi::tbb::blocked_range<size_t>(0, entry.spill_checksums.size(), 8), [&](const auto& part) {
        storage::ChunkIdentity identity = spill_identity(write.entry);
        identity.chunk = uint32_t(part.begin());
        const uint64_t first = part.begin() * storage::kChecksumChunk;
        const uint64_t last = std::min<uint64_t>(part.end() * storage::kChecksumChunk, data.size());
        storage::checksum_extent(identity, data.subspan(first, last - first),
                                 {entry.spill_checksums.data() + part.begin(), part.end() - part.begin()});
      });
  storage::IoRequest request{.kind = storage::IoKind::kWrite,
                             .file = parts_.spill_files[write.extent.file],
                             .offset = write.extent.offset,
                             .data = parts_.arena.data() + write.offset,
                             .bytes = write.bytes,
                             .listener = this,
                             .tag = kWriteTag | write.id};
  {
    std::lock_guard lock(mutex_);
    in_flight_++;
  }
  submit({&request, 1});
}

bool Streamer::may_begin(const Placement& placement) const {
  if (placement.after_ops > completed_ops_) return false;
  for (const WriteId id : placement.after_writes)
    if (unfinished_writes_.contains(id)) return false;
  for (const PlacementId id : placement.after_placements)
    if (unfinished_placements_.contains(id)) return false;
  return true;
}

void Streamer::begin_ready_placements(std::vector<storage::IoRequest>& requests) {
  if (fault_) return;
  size_t passed = 0;
  for (auto item = queue_.begin(); item != queue_.end() && passed < kBeginWindow;) {
    if (!may_begin(item->second)) {
      ++item;
      passed++;
      continue;
    }
    begin_placement(item->first, item->second, requests);
    item = queue_.erase(item);
  }
}

void Streamer::begin_placement(PlacementId id, const Placement& placement,
                               std::vector<storage::IoRequest>& requests) {
  EntryState& entry = entries_[placement.entry];
  entry.address = parts_.arena.data() + placement.offset;
  entry.placement = id;
  entry.source = placement.source;
  entry.bytes = placement.bytes;
  entry.loaded = placement.source == Source::kCreated;
  entry.check = entry.loaded ? Check::kDone : Check::kDue;
  if (entry.loaded) {
    unfinished_placements_.erase(id);
    return;
  }
  storage::IoRequest request;
  if (placement.source == Source::kStore) {
    request = parts_.store.read_request(parts_.space.block(placement.entry), range_of(placement.entry),
                                        entry.address);
  } else {
    request.kind = storage::IoKind::kRead;
    request.file = parts_.spill_files[placement.spill.file];
    request.offset = placement.spill.offset;
    entry.spill = placement.spill;
    request.data = entry.address;
    request.bytes = placement.bytes;
  }
  request.listener = this;
  request.tag = placement.entry;
  in_flight_++;
  requests.push_back(request);
}

void Streamer::submit(std::span<const storage::IoRequest> requests) {
  if (!requests.empty()) parts_.io.submit(requests);
}

void Streamer::io_done(uint64_t tag, std::exception_ptr error) {
  std::vector<storage::IoRequest> requests;
  {
    std::lock_guard lock(mutex_);
    if (error && !fault_) fault_ = error;
    if ((tag & kStoreWriteTag) == kStoreWriteTag) {
      store_writes_--;
      write_finished(tag & ~kStoreWriteTag);
    } else if (tag & kWriteTag) {
      write_finished(tag & ~kWriteTag);
    } else {
      EntryState& entry = entries_[tag];
      entry.loaded = true;
      unfinished_placements_.erase(entry.placement);
    }
    begin_ready_placements(requests);
    waiters_.wake();
  }
  submit(requests);
  // Last: once nothing is in flight, the streamer may be destroyed.
  std::lock_guard lock(mutex_);
  in_flight_--;
  idle_.notify_all();
}

void Streamer::write_finished(WriteId id) {
  const auto found = unfinished_writes_.find(id);
  if (--found->second == 0) unfinished_writes_.erase(found);
}

void Streamer::wait_for_store_writes() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return store_writes_ == 0 || fault_; });
  if (fault_) std::rethrow_exception(fault_);
}

void Streamer::wait_for_all() {
  std::unique_lock lock(mutex_);
  idle_.wait(lock, [this] { return in_flight_ == 0; });
  if (fault_) std::rethrow_exception(fault_);
}

void Streamer::set_committing(bool committing) {
  std::lock_guard lock(mutex_);
  committing_ = committing;
  waiters_.wake();
}

void Streamer::fail(std::exception_ptr fault) {
  std::lock_guard lock(mutex_);
  if (!fault_) fault_ = fault;
  waiters_.wake();
  idle_.notify_all();
}

bool Streamer::failed() const {
  std::lock_guard lock(mutex_);
  return fault_ != nullptr;
}

}  // namespace headrace::stream

#include "tests/support/streamed_session.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace headrace::testing {

using stream::Access;
using stream::AccessMode;
using stream::EntryId;
using stream::EntryKind;

namespace {

uint64_t word(EntryId entry, uint64_t version, uint64_t index) {
  uint64_t value = (uint64_t(entry) << 40) + (version << 24) + index + 1;
  value = (value ^ value >> 31) * 0x9E3779B97F4A7C15U;
  return value ^ value >> 29;
}

void fill(std::byte* data, uint64_t bytes, EntryId entry, uint64_t version) {
  for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
    const uint64_t value = word(entry, version, i);
    std::memcpy(data + i, &value, 8);
  }
}

bool filled(const std::byte* data, uint64_t bytes, EntryId entry, uint64_t version) {
  for (uint64_t i = 0; i + 8 <= bytes; i += 8) {
    const uint64_t value = word(entry, version, i);
    if (std::memcmp(data + i, &value, 8) != 0) return false;
  }
  return true;
}

}  // namespace

StreamedSession::StreamedSession(uint64_t seed, std::vector<Fault> faults)
    : random_(seed),
      blocks_(uint32_t(2 + random_() % 6)),
      layout_(random_layout(random_, blocks_)),
      space_(blocks_),
      planes_{.weight_planes = uint32_t(1 + random_() % 2), .planes = 4},
      sizes_(layout_, space_, planes_) {
  RandomPrograms generator(space_, blocks_, random_());
  uint64_t least = 4096;
  size_t temporaries = 0;
  for (int i = 0; i < 4; i++) {
    programs_.push_back(generator.next());
    least = std::max(least, stream::CachePlanner::least_arena_bytes(programs_.back(), space_, sizes_));
    deferred_.push_back(random_() % 2 == 0);
    temporaries = std::max(temporaries, programs_.back().temporary_bytes.size());
  }
  versions_.resize(space_.size(temporaries));
  const uint64_t arena = (least + random_() % 3 * (random_() % (least + 1)) / 2) / 4096 * 4096;
  planner_ = std::make_unique<stream::CachePlanner>(
      space_, sizes_,
      stream::CacheOptions{.arena_bytes = arena,
                           .prefetch_bytes = random_() % 2 * arena / 3,
                           .write_behind_bytes = random_() % 2 * arena / 4,
                           .create_ahead_ops = uint32_t(random_() % 4)},
      &spill_space_);
  arena_ = storage::AlignedMemory(arena);

  memory_io_ = files_.make_io({.threads = 3});
  faulty_ = std::make_unique<FaultyIo>(*memory_io_, std::move(faults), random_());
  store_ = std::make_unique<SimpleStore>(layout_, *faulty_);
  std::vector<storage::FileIndex> spill_files;
  for (const char* path : {"spill 0", "spill 1"})
    spill_files.push_back(faulty_->add_file({.descriptor = -1, .path = path, .direct = true, .drive = 0}));
  for (const storage::BlockLayout& block : layout_.blocks()) {
    std::vector<std::byte>& content = files_.content(SimpleStore::kPath);
    content.resize(store_->offset(block.id) + block.payload_bytes);
    std::byte* payload = content.data() + store_->offset(block.id);
    const uint64_t weights = storage::Layout::range_bytes(block, planes_.weights(block));
    fill(payload, weights, space_.weights(block.id), 0);
    fill(payload + weights, block.payload_bytes - weights, space_.moments(block.id), 0);
    store_->expect(block.id, payload);
  }
  streamer_ = std::make_unique<stream::Streamer>(stream::Streamer::Parts{.store = *store_,
                                                                         .io = *faulty_,
                                                                         .space = space_,
                                                                         .planes = planes_,
                                                                         .arena = arena_.span().first(arena),
                                                                         .spill_files = spill_files});
}

uint64_t StreamedSession::bytes_of(EntryId entry, const stream::Program& program) const {
  return space_.kind(entry) == EntryKind::kTemporary ? program.temporary_bytes[space_.temporary_index(entry)]
                                                     : sizes_.entry_bytes(entry);
}

void StreamedSession::do_operation(const stream::Program& program, const stream::Op& op,
                                   stream::OpIndex number) {
  streamer_->acquire(number, false);
  storage::BlockId block = 0;
  for (const Access& access : program.accesses_of(op)) {
    std::byte* data = streamer_->address(access.entry);
    const uint64_t bytes = bytes_of(access.entry, program);
    if (access.mode != AccessMode::kCreate && !filled(data, bytes, access.entry, versions_[access.entry]))
      wrong_contents_++;
    if (access.mode != AccessMode::kRead) fill(data, bytes, access.entry, ++versions_[access.entry]);
    if (space_.kind(access.entry) == EntryKind::kWeights) block = space_.block(access.entry);
  }
  streamer_->complete(number, block);
}

void StreamedSession::run_program(size_t index) {
  const stream::Program& program = programs_[index];
  const stream::Program* next = index + 1 < programs_.size() ? &programs_[index + 1] : nullptr;
  stream::Plan plan = planner_->plan(
      program, next, deferred_[index] ? stream::StoreWrites::kDeferred : stream::StoreWrites::kAtOnce);
  planned_.store_read += plan.bytes.store_read;
  planned_.store_written += plan.bytes.store_written;
  planned_.spill_read += plan.bytes.spill_read;
  planned_.spill_written += plan.bytes.spill_written;
  const stream::OpIndex first = plan.first_op;
  streamer_->begin(program, std::move(plan));
  for (size_t i = 0; i < program.ops.size(); i++) do_operation(program, program.ops[i], first + i);
}

// After a program that writes its updates at once there is a commit, as in training: the next program's
// updates wait for it.
void StreamedSession::run() {
  std::exception_ptr fault;
  for (size_t i = 0; i < programs_.size(); i++) {
    const bool commits = i > 0 && !deferred_[i - 1];
    streamer_->set_committing(commits);
    std::thread committer([&, commits] {
      try {
        if (commits) streamer_->wait_for_store_writes();
      } catch (...) {
        streamer_->fail(std::current_exception());
      }
      streamer_->set_committing(false);
    });
    try {
      run_program(i);
    } catch (...) {
      fault = std::current_exception();
    }
    committer.join();
    if (fault) std::rethrow_exception(fault);
  }
  streamer_->wait_for_all();
}

}  // namespace headrace::testing

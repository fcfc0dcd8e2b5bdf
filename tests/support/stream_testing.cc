#include "tests/support/stream_testing.h"

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "storage/checksum.h"
#include "storage/error.h"

namespace headrace::testing {

using storage::BlockId;
using storage::BlockLayout;
using storage::IoRequest;
using storage::Layout;
using storage::PlaneRange;
using stream::AccessMode;
using stream::Program;

Layout random_layout(std::mt19937_64& random, uint32_t blocks) {
  std::vector<storage::TensorSpec> tensors;
  for (uint32_t i = 0; i < blocks; i++) {
    const uint64_t rows = 1 + random() % 8, columns = 1 + random() % 2500;
    const std::string name = fmt::format("tensor{}", i);
    tensors.push_back({.name = name,
                       .rows = rows,
                       .columns = columns,
                       .block_rows = rows,
                       .slots = 2,
                       .planes = {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2", 4}},
                       .parts = {{.name = name, .shape = {rows, columns}, .first_element = 0}}});
  }
  return Layout(std::move(tensors));
}

SimpleStore::SimpleStore(Layout layout, storage::BlockIo& io)
    : layout_(std::move(layout)),
      file_(io.add_file({.descriptor = -1, .path = kPath, .direct = true, .drive = 0})) {
  uint64_t offset = 0;
  for (const BlockLayout& block : layout_.blocks()) {
    offsets_.push_back(offset);
    offset += block.payload_bytes;
    checksums_.emplace_back(block.chunks);
  }
}

uint64_t SimpleStore::checksum(BlockId block, PlaneRange range, const std::byte* data, uint32_t chunk,
                               uint32_t& index) const {
  const storage::ChunkSpan span = storage::chunk_in_range(layout_.block(block), range, chunk);
  index = span.index;
  return storage::chunk_checksum({.object = block, .slot = 0, .chunk = span.index, .step = 0},
                                 {data + span.offset, span.bytes});
}

void SimpleStore::expect(BlockId block, const std::byte* payload) {
  const PlaneRange all{0, uint32_t(layout_.block(block).planes.size())};
  seal(block, all, payload, 0, layout_.block(block).chunks);
}

IoRequest SimpleStore::read_request(BlockId id, PlaneRange range, std::byte* data) const {
  const BlockLayout& block = layout_.block(id);
  IoRequest request;
  request.kind = storage::IoKind::kRead;
  request.file = file_;
  request.offset = offsets_[id] + block.planes[range.first].offset;
  request.data = data;
  request.bytes = Layout::range_bytes(block, range);
  return request;
}

IoRequest SimpleStore::write_request(BlockId block, PlaneRange range, const std::byte* data) {
  IoRequest request = read_request(block, range, const_cast<std::byte*>(data));
  request.kind = storage::IoKind::kWrite;
  return request;
}

void SimpleStore::verify(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
                         uint32_t chunks) const {
  for (uint32_t chunk = first_chunk; chunk < first_chunk + chunks; chunk++) {
    uint32_t index = 0;
    const uint64_t sum = checksum(block, range, data, chunk, index);
    const std::lock_guard lock(mutex_);
    if (sum != checksums_[block][index])
      throw Error(ErrorKind::kCorrupt, fmt::format("block {} is not what was written", block));
  }
}

void SimpleStore::seal(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
                       uint32_t chunks) {
  for (uint32_t chunk = first_chunk; chunk < first_chunk + chunks; chunk++) {
    uint32_t index = 0;
    const uint64_t sum = checksum(block, range, data, chunk, index);
    const std::lock_guard lock(mutex_);
    checksums_[block][index] = sum;
  }
}

Program RandomPrograms::next() {
  parity_ = 1 - parity_;
  updated_.assign(blocks_, false);
  Program program;
  program.parity = parity_;
  const uint64_t operations = 5 + below(40);
  while (program.ops.size() < operations) {
    if (below(4) == 0)
      add_update(program);
    else
      add_compute(program);
  }
  mark_last_accesses(program, space_);
  return program;
}

// Of a block with a gradient, once a program: the content of a step is written once.
void RandomPrograms::add_update(Program& program) {
  const BlockId block = BlockId(below(blocks_));
  if (!gradient_exists_[block] || updated_[block]) return;
  program.ops.push_back({.kind = stream::OpKind::kUpdate,
                         .first_access = uint32_t(program.accesses.size()),
                         .access_count = 3});
  program.accesses.push_back({.entry = space_.weights(block), .mode = AccessMode::kModify});
  program.accesses.push_back({.entry = space_.moments(block), .mode = AccessMode::kModify});
  program.accesses.push_back({.entry = space_.gradient(block), .mode = AccessMode::kRead, .last = true});
  gradient_exists_[block] = false;
  updated_[block] = true;
}

void RandomPrograms::add_compute(Program& program) {
  const auto first = uint32_t(program.accesses.size());
  const BlockId block = BlockId(below(blocks_));
  if (below(2) == 0) program.accesses.push_back({.entry = space_.weights(block)});
  if (below(3) == 0) {
    program.accesses.push_back({.entry = space_.gradient(block),
                                .mode = gradient_exists_[block] ? AccessMode::kModify : AccessMode::kCreate});
    gradient_exists_[block] = true;
  }
  std::vector<uint32_t> old;
  for (uint32_t i = 0; i < program.temporary_bytes.size(); i++) old.push_back(i);
  for (uint64_t n = below(3); n > 0 && !old.empty(); n--) {
    const size_t at =
        below(4) == 0 ? below(old.size()) : old.size() - 1 - below(std::min<size_t>(old.size(), 4));
    program.accesses.push_back({.entry = space_.temporary(old[at], parity_),
                                .mode = below(2) == 0 ? AccessMode::kRead : AccessMode::kModify});
    old.erase(old.begin() + ptrdiff_t(at));
  }
  for (uint64_t n = below(2); n > 0; n--) {
    const auto index = uint32_t(program.temporary_bytes.size());
    program.temporary_bytes.push_back(4 * (1 + below(below(4) == 0 ? 20000 : 3000)));
    program.accesses.push_back({.entry = space_.temporary(index, parity_), .mode = AccessMode::kCreate});
  }
  const auto count = uint32_t(program.accesses.size()) - first;
  if (count > 0)
    program.ops.push_back({.kind = stream::OpKind::kCompute, .first_access = first, .access_count = count});
}

void run_within(double seconds, const std::string& what, const std::function<void()>& body) {
  std::packaged_task<void()> task(body);
  std::future<void> done = task.get_future();
  std::thread thread(std::move(task));
  if (done.wait_for(std::chrono::duration<double>(seconds)) != std::future_status::ready) {
    std::fprintf(stderr, "hangs: %s\n", what.c_str());
    std::abort();
  }
  thread.join();
  done.get();
}

}  // namespace headrace::testing

#include "storage/store.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>

#include "storage/catalog.h"
#include "storage/checksum.h"
#include "storage/metrics_log.h"
#include "storage/run_dir.h"
#include "storage/shard.h"
#include "storage/space.h"
#include "storage/store_shards.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kSlotBit = uint64_t{1} << 63;

// One block's state, changed without a lock. `word`: the committed slot in the highest bit, and a bit for
// each plane written since the last commit, whose newest content is in the other slot. Flipping at a commit
// changes nothing for a reader: a block is written whole or not at all.
struct BlockState {
  std::atomic<uint64_t> word{0};
  std::atomic<uint64_t> steps[2] = {0, 0};  // that wrote each slot
};

uint32_t committed_slot(uint64_t word) { return (word & kSlotBit) != 0 ? 1 : 0; }
uint64_t bits_of(PlaneRange range) { return (uint64_t{1} << range.last) - (uint64_t{1} << range.first); }

class StoreOnShards final : public Store {
 public:
  StoreOnShards(const std::string& run_dir, const std::vector<std::string>& shard_dirs, BlockIo& io);

  const Layout& layout() const override { return layout_; }
  const std::string& model_json() const override { return model_json_; }
  const std::string& cursor_json() const override { return step_record_.cursor_json; }
  const std::vector<std::string>& notes() const override { return notes_; }
  uint64_t step() const override { return step_; }
  const std::string& run_id() const override { return run_id_; }
  uint64_t written_step(BlockId block) const override {
    return states_[block].steps[committed_slot(states_[block].word.load(std::memory_order_acquire))];
  }
  std::vector<std::string> shard_paths() const override;
  std::span<const FileIndex> shard_files() const override { return {files_.data(), shards_.size()}; }
  uint32_t shard_of(BlockId block) const override { return places_[block].shard; }

  IoRequest read_request(BlockId block, PlaneRange range, std::byte* data) const override;
  void verify(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
              uint32_t chunks) const override;
  void seal(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
            uint32_t chunks) override;
  IoRequest write_request(BlockId block, PlaneRange range, const std::byte* data) override;
  void commit(const Commit& commit) override;
  void reserve_commit() override;
  void set_cursor(const std::string& cursor_json) override;
  void abandon_step() override;

 private:
  uint32_t newest_slot(BlockId block, PlaneRange range) const;
  IoRequest request(IoKind kind, BlockId block, uint32_t slot, PlaneRange range, std::byte* data) const;
  [[noreturn]] void corrupt(BlockId block, uint32_t slot, uint32_t plane, const ChunkSpan& chunk,
                            uint64_t offset) const;
  void take_states(const CatalogContent& content);
  void gather_written();
  void require_no_poison() const;
  void poison_on_failure(const char* what, const std::function<void()>& action);
  uint64_t* sums(BlockId block, uint32_t slot) { return sums_[slot].data() + first_chunk_[block]; }
  const uint64_t* sums(BlockId block, uint32_t slot) const {
    return sums_[slot].data() + first_chunk_[block];
  }

  BlockIo& io_;
  File run_lock_;
  std::unique_ptr<Catalog> catalog_;
  Layout layout_;
  std::string run_id_, model_json_;
  std::vector<std::string> notes_;
  StepRecord step_record_;
  std::atomic<uint64_t> step_{0};
  std::vector<Shard> shards_;
  std::vector<BlockPlace> places_;
  std::unique_ptr<MetricsLog> metrics_;
  std::vector<FileIndex> files_;  // the shards', then metrics.jsonl's
  std::vector<BlockState> states_;
  std::vector<uint64_t> first_chunk_;  // of each block in `sums_`
  std::vector<uint64_t> sums_[2];      // by slot; 0: not sealed since the slot was last given up
  std::vector<BlockRecord> written_;   // of the commit under way
  std::string poison_;                 // why no commit may follow
};

StoreOnShards::StoreOnShards(const std::string& run_dir, const std::vector<std::string>& shard_dirs,
                             BlockIo& io)
    : io_(io) {
  if (!Store::exists(run_dir)) {
    throw Error(ErrorKind::kUsage, fmt::format("{} holds no run", run_dir), "Name the directory of a run");
  }
  run_lock_ = lock_run(run_dir);
  if (remove_marker(run_dir)) notes_.push_back("the run's creation had been cut short at its end");
  catalog_ = std::make_unique<Catalog>(catalog_directory(run_dir), CatalogAccess::kWrite);
  CatalogContent content = catalog_->load();
  const std::vector<std::string> directories = find_shards(run_dir, content, shard_dirs);
  shards_ = open_shards(content, directories);
  bool moved = home_of(run_dir).path != content.home.path;
  for (size_t i = 0; i < shards_.size(); i++) {
    const std::string path = path_in_run(run_dir, directories[i]);
    moved = moved || path != content.shards[i].path;
    content.shards[i].path = path;
  }
  if (moved) catalog_->reserve(content.step, {});
  if (moved) catalog_->move_shards(home_of(run_dir), content.shards, content.step);
  metrics_ = std::make_unique<MetricsLog>(metrics_path(run_dir), content.step.metrics_bytes,
                                          content.step.metrics_text);
  if (!metrics_->note().empty()) notes_.push_back(metrics_->note());
  for (const Shard& shard : shards_) {
    if (!shard.payload_file().direct)
      notes_.push_back(fmt::format("{} passes through the page cache: {}", shard.path(),
                                   shard.payload_file().why_not_direct));
  }
  std::vector<std::string> drives = directories;
  drives.push_back(run_dir);
  for (size_t i = 0; i < shards_.size(); i++) {
    files_.push_back(io_.add_file(shards_[i].payload_file().io_file(drive_number(drives, i))));
  }
  files_.push_back(io_.add_file({metrics_->file().descriptor(), metrics_->file().path(), false,
                                 drive_number(drives, drives.size() - 1)}));
  take_states(content);
  layout_ = std::move(content.layout);
  run_id_ = std::move(content.run_id);
  model_json_ = std::move(content.model_json);
  step_record_ = std::move(content.step);
  places_ = std::move(content.places);
  step_ = step_record_.step;
}

void StoreOnShards::take_states(const CatalogContent& content) {
  states_ = std::vector<BlockState>(content.blocks.size());
  for (std::vector<uint64_t>& sums : sums_) sums.assign(content.checksums.size(), 0);
  uint64_t next = 0;
  for (const BlockRecord& block : content.blocks) {
    BlockState& state = states_[block.block];
    state.word = block.slot == 1 ? kSlotBit : 0;
    state.steps[block.slot] = block.step;
    first_chunk_.push_back(next);
    std::copy(block.checksums.begin(), block.checksums.end(), sums(block.block, block.slot));
    next += block.checksums.size();
  }
  written_.reserve(content.blocks.size());
}

std::vector<std::string> StoreOnShards::shard_paths() const {
  std::vector<std::string> paths;
  for (const Shard& shard : shards_) paths.push_back(shard.directory());
  return paths;
}

uint32_t StoreOnShards::newest_slot(BlockId block, PlaneRange range) const {
  const uint64_t word = states_[block].word.load(std::memory_order_acquire);
  const uint64_t bits = bits_of(range), written = word & bits;
  HEADRACE_CHECK(written == 0 || written == bits, "a range of planes of which only some are written");
  return written != 0 ? committed_slot(word) ^ 1 : committed_slot(word);
}

IoRequest StoreOnShards::request(IoKind kind, BlockId block, uint32_t slot, PlaneRange range,
                                 std::byte* data) const {
  const BlockLayout& layout = layout_.block(block);
  const BlockPlace& place = places_[block];
  IoRequest request;
  request.kind = kind;
  request.file = files_[place.shard];
  request.offset = place.offsets[slot] + layout.planes[range.first].offset;
  request.data = data;
  request.bytes = Layout::range_bytes(layout, range);
  return request;
}

IoRequest StoreOnShards::read_request(BlockId block, PlaneRange range, std::byte* data) const {
  return request(IoKind::kRead, block, newest_slot(block, range), range, data);
}

void StoreOnShards::corrupt(BlockId block, uint32_t slot, uint32_t plane, const ChunkSpan& chunk,
                            uint64_t offset) const {
  const BlockLayout& layout = layout_.block(block);
  const TensorSpec& tensor = layout_.tensor(layout.tensor);
  throw Error(
      ErrorKind::kCorrupt,
      fmt::format("{}: the {} bytes at offset {} are not what was written (tensor '{}', plane '{}', block "
                  "{} of rows {} to {}, slot {}, step {})",
                  shards_[places_[block].shard].path(), chunk.bytes, offset, tensor.name,
                  tensor.planes[plane].name, block, layout.first_row, layout.first_row + layout.rows - 1,
                  slot, states_[block].steps[slot].load()),
      "Restore the run from a checkpoint or a copy, and check the drive");
}

void StoreOnShards::verify(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
                           uint32_t chunks) const {
  const BlockLayout& layout = layout_.block(block);
  const uint32_t slot = newest_slot(block, range);
  const uint64_t step = states_[block].steps[slot].load(std::memory_order_relaxed);
  const uint64_t* expected = sums(block, slot);
  for (uint32_t i = first_chunk; i < first_chunk + chunks; i++) {
    const ChunkSpan chunk = chunk_in_range(layout, range, i);
    if (chunk_checksum({block, slot, chunk.index, step}, {data + chunk.offset, chunk.bytes}) ==
        expected[chunk.index]) {
      continue;
    }
    uint32_t plane = range.first;
    while (chunk.index >= layout.planes[plane].first_chunk + layout.planes[plane].chunks) plane++;
    const uint64_t base = places_[block].offsets[slot] + layout.planes[range.first].offset;
    corrupt(block, slot, plane, chunk, base + chunk.offset);
  }
}

void StoreOnShards::seal(BlockId block, PlaneRange range, const std::byte* data, uint32_t first_chunk,
                         uint32_t chunks) {
  const BlockLayout& layout = layout_.block(block);
  HEADRACE_CHECK(layout.slots == 2, "a frozen block is not written");
  const uint32_t slot = committed_slot(states_[block].word.load(std::memory_order_acquire)) ^ 1;
  uint64_t* to = sums(block, slot);
  for (uint32_t i = first_chunk; i < first_chunk + chunks; i++) {
    const ChunkSpan chunk = chunk_in_range(layout, range, i);
    to[chunk.index] =
        chunk_checksum({block, slot, chunk.index, step_ + 1}, {data + chunk.offset, chunk.bytes});
  }
}

IoRequest StoreOnShards::write_request(BlockId block, PlaneRange range, const std::byte* data) {
  HEADRACE_CHECK(layout_.block(block).slots == 2, "a frozen block is not written");
  BlockState& state = states_[block];
  const uint32_t slot = committed_slot(state.word.load(std::memory_order_acquire)) ^ 1;
  state.steps[slot].store(step_ + 1, std::memory_order_relaxed);
  state.word.fetch_or(bits_of(range), std::memory_order_acq_rel);
  return request(IoKind::kWrite, block, slot, range,
                 const_cast<std::byte*>(data));  // block I/O only reads it
}

void StoreOnShards::gather_written() {
  written_.clear();
  for (BlockId block = 0; block < states_.size(); block++) {
    const uint64_t word = states_[block].word.load(std::memory_order_acquire);
    if ((word & ~kSlotBit) == 0) continue;
    const BlockLayout& layout = layout_.block(block);
    const uint32_t slot = committed_slot(word) ^ 1;
    const PlaneRange all{0, static_cast<uint32_t>(layout.planes.size())};
    HEADRACE_CHECK((word & ~kSlotBit) == bits_of(all), fmt::format("block {} was written in part", block));
    const std::span<const uint64_t> sealed(sums(block, slot), layout.chunks);
    HEADRACE_CHECK(std::find(sealed.begin(), sealed.end(), 0) == sealed.end(),
                   fmt::format("block {} was written without its checksums", block));
    written_.push_back({block, slot, states_[block].steps[slot].load(), sealed});
  }
}

void StoreOnShards::poison_on_failure(const char* what, const std::function<void()>& action) {
  try {
    action();
  } catch (const std::exception& error) {
    poison_ = fmt::format("{}: {}", what, error.what());
    throw;
  }
}

void StoreOnShards::require_no_poison() const {
  if (poison_.empty()) return;
  throw Error(ErrorKind::kFailed, "an earlier commit failed and none may follow: " + poison_,
              "Start again: the run continues from its committed step");
}

void StoreOnShards::reserve_commit() {
  constexpr uint64_t kLineBytes = 4096;
  written_.clear();
  for (const BlockLayout& block : layout_.blocks())
    written_.push_back({block.id, 0, 0, {sums(block.id, 0), block.chunks}});
  catalog_->reserve(step_record_, written_);
  metrics_->reserve(kLineBytes);
}

void StoreOnShards::set_cursor(const std::string& cursor_json) {
  require_no_poison();
  StepRecord record = step_record_;
  record.cursor_json = cursor_json;
  catalog_->reserve(record, {});
  poison_on_failure("commit", [&] { catalog_->commit(record, {}); });
  step_record_ = std::move(record);
}

void StoreOnShards::commit(const Commit& commit) {
  require_no_poison();
  HEADRACE_CHECK(commit.step > step_, fmt::format("commit of step {} after {}", commit.step, step_.load()));
  gather_written();
  StepRecord record{commit.step, commit.cursor_json, metrics_->bytes(), {}};
  for (const std::string& line : commit.metrics_lines) record.metrics_text += line + "\n";
  catalog_->reserve(record, written_);
  metrics_->reserve(record.metrics_text.size());
  poison_on_failure("sync", [&] { sync_files(io_, files_); });
  poison_on_failure("commit", [&] { catalog_->commit(record, written_); });
  step_record_ = std::move(record);
  step_ = step_record_.step;
  for (const BlockRecord& block : written_) {
    std::fill_n(sums(block.block, block.slot ^ 1), block.checksums.size(), 0);
    states_[block.block].word.store(block.slot == 1 ? kSlotBit : 0, std::memory_order_release);
  }
  poison_on_failure("append the metrics", [&] { metrics_->append(step_record_.metrics_text); });
}

void StoreOnShards::abandon_step() {
  for (BlockId block = 0; block < states_.size(); block++) {
    const uint64_t word = states_[block].word.load(std::memory_order_acquire);
    if (layout_.block(block).slots == 2) {
      std::fill_n(sums(block, committed_slot(word) ^ 1), layout_.block(block).chunks, 0);
    }
    states_[block].word.store(word & kSlotBit, std::memory_order_release);
  }
}

}  // namespace

std::unique_ptr<Store> Store::open(const std::string& run_dir, const std::vector<std::string>& shard_dirs,
                                   BlockIo& io) {
  return std::make_unique<StoreOnShards>(run_dir, shard_dirs, io);
}

}  // namespace headrace::storage

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "storage/aligned_memory.h"
#include "storage/catalog.h"
#include "storage/checksum.h"
#include "storage/run_dir.h"
#include "storage/shard.h"
#include "storage/space.h"
#include "storage/store.h"
#include "storage/store_shards.h"

namespace headrace::storage {
namespace {

constexpr uint64_t kLargePayload = uint64_t{32} << 20;  // one buffer a worker from here on, two below
constexpr double kLockSeconds = 30;

// Blocks go to the shard that has the fewest bytes: round-robin where they have one size.
std::vector<std::vector<const BlockLayout*>> stripe(const Layout& layout, size_t shards) {
  std::vector<std::vector<const BlockLayout*>> striped(shards);
  std::vector<uint64_t> bytes(shards, 0);
  for (const BlockLayout& block : layout.blocks()) {
    const auto least = static_cast<size_t>(std::min_element(bytes.begin(), bytes.end()) - bytes.begin());
    striped[least].push_back(&block);
    bytes[least] += block.slots * (block.payload_bytes + kPlaneAlignment);
  }
  return striped;
}

uint64_t catalog_bytes(const Layout& layout) {
  uint64_t bytes = uint64_t{1} << 20;
  for (const BlockLayout& block : layout.blocks()) bytes += 8 * block.chunks + 256;
  return 4 * bytes;
}

std::vector<SpaceWanted> space_wanted(const StoreConfig& config) {
  std::vector<SpaceWanted> wanted;
  const bool inside = config.shard_dirs.empty();
  const auto striped = stripe(config.layout, inside ? 1 : config.shard_dirs.size());
  for (size_t i = 0; i < striped.size(); i++) {
    wanted.push_back({inside ? config.run_dir : config.shard_dirs[i], shard_bytes(striped[i])});
  }
  wanted.push_back({config.run_dir, catalog_bytes(config.layout)});
  return wanted;
}

// A write in flight for each buffer of a worker; the worker waits before it fills the buffer again.
class BufferGate final : public IoListener {
 public:
  void begin() {
    const std::lock_guard lock(mutex_);
    busy_ = true;
  }
  void io_done(uint64_t, std::exception_ptr error) override {
    const std::lock_guard lock(mutex_);
    busy_ = false;
    if (error && !error_) error_ = error;
    changed_.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !busy_; });
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }
  void wait_quietly() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !busy_; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool busy_ = false;
  std::exception_ptr error_;
};

// Fills slot 0 of every block: workers call the filler, checksum and write, one or two buffers each.
class Fill {
 public:
  Fill(CatalogContent& content, std::span<const FileIndex> files, BlockIo& io, const BlockFiller& filler,
       const CreateProgress& progress)
      : content_(content), files_(files), io_(io), filler_(filler), progress_(progress) {
    first_chunk_.push_back(0);
    for (const BlockLayout& block : content_.layout.blocks()) {
      first_chunk_.push_back(first_chunk_.back() + block.chunks);
      largest_ = std::max(largest_, block.payload_bytes);
    }
    content_.checksums.resize(first_chunk_.back());
  }

  void run(uint32_t threads) {
    std::vector<std::thread> workers;
    try {
      for (uint32_t i = 0; i < std::max(threads, 1u); i++) workers.emplace_back([this] { work(); });
    } catch (...) {
      note_error(std::current_exception());
    }
    for (std::thread& worker : workers) worker.join();
    if (error_) std::rethrow_exception(error_);
    const std::span<const uint64_t> all(content_.checksums);
    for (const BlockLayout& block : content_.layout.blocks()) {
      content_.blocks.push_back({block.id, 0, 0, all.subspan(first_chunk_[block.id], block.chunks)});
    }
  }

 private:
  void note_error(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    if (!error_) error_ = std::move(error);
    stop_ = true;
  }

  void work() {
    const size_t buffers = largest_ > kLargePayload ? 1 : 2;
    std::array<BufferGate, 2> gates;
    std::array<uint64_t, 2> dirty_bytes{};  // of each buffer, from its beginning; the rest is zero
    AlignedMemory memory;
    try {
      memory = AlignedMemory(buffers * largest_);
      for (size_t turn = 0; !stop_; turn++) {
        const uint64_t block = next_block_++;
        if (block >= content_.layout.blocks().size()) break;
        BufferGate& gate = gates[turn % buffers];
        gate.wait();
        fill_block(static_cast<BlockId>(block), memory.span().subspan(turn % buffers * largest_), gate,
                   dirty_bytes[turn % buffers]);
      }
      for (BufferGate& gate : gates) gate.wait();
    } catch (...) {
      note_error(std::current_exception());
    }
    for (BufferGate& gate : gates) gate.wait_quietly();  // before their memory goes
  }

  void fill_block(BlockId id, std::span<std::byte> buffer, BufferGate& gate, uint64_t& dirty_bytes) {
    const BlockLayout& block = content_.layout.block(id);
    const std::span<std::byte> payload = buffer.first(block.payload_bytes);
    std::memset(buffer.data(), 0, dirty_bytes);
    const uint32_t planes = filler_(block, payload);
    HEADRACE_CHECK(planes <= block.planes.size(), "a filler that filled planes that are not there");
    dirty_bytes = planes == 0 ? 0 : block.planes[planes - 1].offset + block.planes[planes - 1].padded_bytes;
    checksum_block(block, payload.first(dirty_bytes));
    if (planes > 0) {
      const PlaneExtent& last = block.planes[planes - 1];
      const BlockPlace& place = content_.places[id];
      gate.begin();
      const IoRequest request{IoKind::kWrite,
                              files_[place.shard],
                              place.offsets[0],
                              payload.data(),
                              last.offset + last.padded_bytes,
                              &gate,
                              id};
      io_.submit({&request, 1});
    }
    const std::lock_guard lock(mutex_);
    done_bytes_ += block.payload_bytes;
    if (progress_) progress_(done_bytes_, content_.layout.payload_bytes());
  }

  // `filled`: the planes with content. The others are zeros, which are taken from a small place that stays in
  // the processor's cache.
  void checksum_block(const BlockLayout& block, std::span<const std::byte> filled) {
    static constexpr std::array<std::byte, kChecksumChunk> kZeros{};
    const PlaneRange all{0, static_cast<uint32_t>(block.planes.size())};
    for (uint32_t i = 0; i < block.chunks; i++) {
      const ChunkSpan chunk = chunk_in_range(block, all, i);
      const std::span<const std::byte> bytes = chunk.offset < filled.size()
                                                   ? filled.subspan(chunk.offset, chunk.bytes)
                                                   : std::span(kZeros).first(chunk.bytes);
      content_.checksums[first_chunk_[block.id] + i] = chunk_checksum({block.id, 0, i, 0}, bytes);
    }
  }

  CatalogContent& content_;
  std::span<const FileIndex> files_;
  BlockIo& io_;
  const BlockFiller& filler_;
  const CreateProgress& progress_;
  std::vector<uint64_t> first_chunk_;
  uint64_t largest_ = 0;
  std::atomic<uint64_t> next_block_{0};
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
  uint64_t done_bytes_ = 0;
};

void make_shards(const StoreConfig& config, const std::vector<std::string>& directories,
                 CatalogContent& content, BlockIo& io, const BlockFiller& filler, uint32_t threads,
                 const CreateProgress& progress) {
  const auto count = static_cast<uint32_t>(directories.size());
  const auto striped = stripe(config.layout, count);
  content.places.resize(config.layout.blocks().size());
  std::vector<Shard> shards;
  std::vector<FileIndex> files;
  for (uint32_t i = 0; i < count; i++) {
    const ShardIdentity identity{content.run_id, i, count};
    if (config.shard_dirs.empty()) make_directory(config.run_dir + "/shards");
    make_directory(directories[i]);
    lay_out_shard(directories[i], identity, striped[i]);
    sync_directory(directories[i] + "/..");
    shards.emplace_back(directories[i], kLockSeconds);
    const ShardStructure structure = shards.back().read_structure(identity);
    for (const PayloadPlace& place : structure.places) {
      content.places[place.block].shard = i;
      content.places[place.block].offsets[place.slot] = place.offset;
    }
    content.shards.push_back(
        {path_in_run(config.run_dir, directories[i]), structure.file_bytes, structure.hash});
  }
  for (uint32_t i = 0; i < count; i++) {
    files.push_back(io.add_file(shards[i].payload_file().io_file(drive_number(directories, i))));
  }
  Fill(content, files, io, filler, progress).run(threads);
  sync_files(io, files);
}

void make_catalog(const std::string& run_dir, const CatalogContent& content) {
  const std::string fresh = new_catalog_directory(run_dir);
  make_directory(fresh);
  Catalog::create(fresh, content);
  sync_directory(fresh);
  sync_directory(run_dir);
  // The rename commits step 0: from here on the run exists.
  if (::rename(fresh.c_str(), catalog_directory(run_dir).c_str()) != 0) {
    throw Error(ErrorKind::kFailed, fmt::format("cannot rename {}: {}", fresh, system_text(errno)));
  }
  sync_directory(run_dir);
  remove_marker(run_dir);
}

}  // namespace

std::vector<SpaceNeeded> Store::space_needed(const StoreConfig& config) {
  return space_by_file_system(space_wanted(config));
}

bool Store::exists(const std::string& run_dir) {
  return file_exists(catalog_directory(run_dir) + "/data.mdb");
}

void Store::create(const StoreConfig& config, BlockIo& io, const BlockFiller& filler, uint32_t threads,
                   const CreateProgress& progress) {
  const bool existed = file_exists(config.run_dir);
  make_directory(config.run_dir);
  const File lock = lock_run(config.run_dir);
  remove_unfinished(config.run_dir);
  require_empty(config.run_dir);
  try {
    // The name of the run; also where a try that was killed made it, or somebody else.
    sync_directory(config.run_dir + "/..");
    require_shard_directories(config.shard_dirs);
    require_space(space_needed(config));
    CatalogContent content;
    content.run_id = new_run_id();
    content.model_json = config.model_json;
    content.layout = config.layout;
    content.home = home_of(config.run_dir);
    content.step.step = config.step;
    content.step.cursor_json = config.cursor_json;
    const std::vector<std::string> directories =
        new_shard_directories(config.run_dir, content.run_id, config.shard_dirs);
    write_marker(config.run_dir, content.run_id, directories);
    make_shards(config, directories, content, io, filler, threads, progress);
    make_catalog(config.run_dir, content);
  } catch (...) {
    try {  // what stays behind is marked, and the next try removes it
      remove_unfinished(config.run_dir);
      if (!existed) ::rmdir(config.run_dir.c_str());
    } catch (const Error&) {
    }
    throw;
  }
}

}  // namespace headrace::storage

#include "storage/catalog.h"

#include <fmt/format.h>

#include <cstring>
#include <exception>
#include <map>

#include "storage/catalog_json.h"
#include "storage/error.h"
#include "storage/file.h"

namespace headrace::storage {
namespace {

constexpr std::string_view kFormat = "headrace catalog 1";
constexpr std::string_view kFormatName = "headrace catalog ";
// Kept free for commits: copies of the catalog's first size, and what a small one needs.
constexpr uint64_t kReservedCopies = 4, kReservedBytes = uint64_t{1} << 20;

// Values that are not text, as they lie on disk (little-endian).
struct PlaceOnDisk {
  uint32_t block, reserved;
  uint64_t offsets[2];
};
struct StepOnDisk {
  uint64_t step, metrics_bytes;
};
struct BlockOnDisk {  // then the checksums
  uint32_t slot, chunks;
  uint64_t step;
};
static_assert(sizeof(PlaceOnDisk) == 24 && sizeof(StepOnDisk) == 16 && sizeof(BlockOnDisk) == 16);

std::string shard_key(size_t shard) { return fmt::format("shard-{:05}", shard); }
std::string places_key(size_t shard) { return fmt::format("places-{:05}", shard); }

template <typename T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

void put_step(CatalogEnv::Batch& batch, const StepRecord& step) {
  batch.put("step", bytes_of(StepOnDisk{step.step, step.metrics_bytes}));
  batch.put("cursor", step.cursor_json);
  batch.put("metrics", step.metrics_text);
}

void put_blocks(CatalogEnv::Batch& batch, std::span<const BlockRecord> blocks) {
  std::vector<std::byte> value;
  char key[32];
  for (const BlockRecord& block : blocks) {
    const BlockOnDisk head{block.slot, static_cast<uint32_t>(block.checksums.size()), block.step};
    value.resize(sizeof head + block.checksums.size_bytes());
    std::memcpy(value.data(), &head, sizeof head);
    std::memcpy(value.data() + sizeof head, block.checksums.data(), block.checksums.size_bytes());
    const auto end = fmt::format_to_n(key, sizeof key, "block-{:010}", block.block);
    batch.put(std::string_view(key, end.size), std::span<const std::byte>(value));
  }
}

void put_places(CatalogEnv::Batch& batch, const CatalogContent& content) {
  std::vector<std::vector<PlaceOnDisk>> by_shard(content.shards.size());
  for (uint32_t block = 0; block < content.places.size(); block++) {
    const BlockPlace& place = content.places[block];
    by_shard.at(place.shard).push_back({block, 0, {place.offsets[0], place.offsets[1]}});
  }
  for (size_t i = 0; i < by_shard.size(); i++)
    batch.put(places_key(i), std::as_bytes(std::span(by_shard[i])));
}

// Gathers the values of one reading and takes them apart.
class Loader {
 public:
  explicit Loader(const CatalogEnv& env) : env_(env) {
    newest_ = env.read_all([&](std::string_view key, std::span<const std::byte> value, uint64_t transaction) {
      values_[std::string(key)].assign(reinterpret_cast<const char*>(value.data()), value.size());
      if (key == "step") step_transaction_ = transaction;
    });
  }

  CatalogContent content() {
    check_format();
    CatalogContent content;
    content.run_id = take("run");
    content.model_json = take("model");
    try {
      content.layout = Layout(tensors_from_json(take("tensors")));
      content.home = home_from_json(take("home"));
      for (size_t i = 0; values_.count(shard_key(i)) != 0; i++) {
        content.shards.push_back(shard_from_json(take(shard_key(i))));
      }
    } catch (const std::exception& error) {
      corrupt(error.what());
    }
    take_places(content);
    take_step(content);
    take_blocks(content);
    if (!values_.empty()) corrupt("the value '" + values_.begin()->first + "' belongs to nothing");
    return content;
  }

 private:
  [[noreturn]] void corrupt(const std::string& why) const {
    throw Error(ErrorKind::kCorrupt, fmt::format("{} is damaged: {}", env_.path(), why),
                "Restore the run from a checkpoint or a copy");
  }
  std::string take(const std::string& key) {
    auto found = values_.extract(key);
    if (found.empty()) corrupt("it has no value '" + key + "'");
    return std::move(found.mapped());
  }
  template <typename T>
  static T load(const std::string& value, size_t offset) {
    T result;
    std::memcpy(&result, value.data() + offset, sizeof result);
    return result;
  }

  void check_format() {
    const std::string format = take("format");
    if (format == kFormat) return;
    if (format.starts_with(kFormatName)) {
      throw Error(
          ErrorKind::kFailed,
          fmt::format("{} has the format '{}', and this program knows '{}'", env_.path(), format, kFormat),
          "Use the version of headrace that wrote it, or restore from a checkpoint");
    }
    corrupt("it is no catalog of headrace");
  }

  void take_places(CatalogContent& content) {
    content.places.resize(content.layout.blocks().size());
    std::vector<bool> placed(content.places.size(), false);
    for (uint32_t shard = 0; shard < content.shards.size(); shard++) {
      const std::string value = take(places_key(shard));
      if (value.size() % sizeof(PlaceOnDisk) != 0) corrupt("places of an odd length");
      for (size_t at = 0; at < value.size(); at += sizeof(PlaceOnDisk)) {
        const auto place = load<PlaceOnDisk>(value, at);
        if (place.block >= placed.size() || placed[place.block]) corrupt("a block with no place of its own");
        placed[place.block] = true;
        const BlockLayout& block = content.layout.block(place.block);
        for (uint32_t slot = 0; slot < 2; slot++) {
          const uint64_t offset = place.offsets[slot];
          const bool used = slot < block.slots;
          if (used != (offset != 0) || offset % kPlaneAlignment != 0 ||
              (used && (offset > content.shards[shard].file_bytes ||
                        block.payload_bytes > content.shards[shard].file_bytes - offset))) {
            corrupt(fmt::format("block {} has a slot at {}", place.block, offset));
          }
        }
        content.places[place.block] = {shard, {place.offsets[0], place.offsets[1]}};
      }
    }
    for (bool found : placed) {
      if (!found) corrupt("a block without a place");
    }
  }

  // Every transaction writes the step: one of an older state means that the newest was lost.
  void take_step(CatalogContent& content) {
    if (step_transaction_ != newest_) corrupt("its step is not of its newest transaction");
    const std::string value = take("step");
    if (value.size() != sizeof(StepOnDisk)) corrupt("a step of an odd length");
    const auto step = load<StepOnDisk>(value, 0);
    content.step = {step.step, take("cursor"), step.metrics_bytes, take("metrics")};
  }

  void take_blocks(CatalogContent& content) {
    uint64_t chunks = 0;
    for (const BlockLayout& block : content.layout.blocks()) chunks += block.chunks;
    content.checksums.resize(chunks);
    uint64_t next = 0;
    for (const BlockLayout& block : content.layout.blocks()) {
      const std::string value = take(fmt::format("block-{:010}", block.id));
      const size_t sums = block.chunks * sizeof(uint64_t);
      if (value.size() != sizeof(BlockOnDisk) + sums)
        corrupt(fmt::format("block {} of an odd length", block.id));
      const auto head = load<BlockOnDisk>(value, 0);
      if (head.chunks != block.chunks || head.slot >= block.slots || head.step > content.step.step) {
        corrupt(fmt::format("block {} of step {}, slot {}", block.id, head.step, head.slot));
      }
      std::memcpy(content.checksums.data() + next, value.data() + sizeof head, sums);
      const std::span<const uint64_t> all(content.checksums);
      content.blocks.push_back({block.id, head.slot, head.step, all.subspan(next, block.chunks)});
      next += block.chunks;
    }
  }

  const CatalogEnv& env_;
  std::map<std::string, std::string> values_;
  uint64_t newest_ = 0, step_transaction_ = 0;
};

}  // namespace

void Catalog::create(const std::string& directory, const CatalogContent& content) {
  CatalogEnv env(directory, CatalogAccess::kCreate);
  env.commit([&](CatalogEnv::Batch& batch) {
    batch.put("format", kFormat);
    batch.put("run", content.run_id);
    batch.put("model", content.model_json);
    batch.put("tensors", tensors_to_json(content.layout.tensors()));
    batch.put("home", home_to_json(content.home));
    for (size_t i = 0; i < content.shards.size(); i++)
      batch.put(shard_key(i), shard_to_json(content.shards[i]));
    put_places(batch, content);
    put_step(batch, content.step);
    put_blocks(batch, content.blocks);
  });
  const File file = File::open(env.path(), OpenMode::kReadWrite);
  file.reserve(file.size() * kReservedCopies + kReservedBytes);
}

CatalogContent Catalog::load() const { return Loader(env_).content(); }

// The most that LMDB writes: leaf pages may end up half full, a value longer than half a page takes pages of
// its own, and some pages are those of branches and of the list of free pages.
void Catalog::reserve(const StepRecord& step, std::span<const BlockRecord> blocks) const {
  constexpr uint64_t kPage = 4096, kEntry = 64, kOtherPages = 64;
  const auto most = [](uint64_t bytes) { return 2 * (bytes + kEntry) + (bytes > kPage / 3 ? kPage : 0); };
  uint64_t bytes = kOtherPages * kPage + most(step.cursor_json.size()) + most(step.metrics_text.size());
  for (const BlockRecord& block : blocks) bytes += most(sizeof(BlockOnDisk) + block.checksums.size_bytes());
  env_.reserve(bytes + bytes / 256);
}

void Catalog::commit(const StepRecord& step, std::span<const BlockRecord> blocks) {
  env_.commit([&](CatalogEnv::Batch& batch) {
    put_step(batch, step);
    put_blocks(batch, blocks);
  });
}

void Catalog::move_shards(const HomeRecord& home, std::span<const ShardRecord> shards,
                          const StepRecord& step) {
  env_.commit([&](CatalogEnv::Batch& batch) {
    batch.put("home", home_to_json(home));
    for (size_t i = 0; i < shards.size(); i++) batch.put(shard_key(i), shard_to_json(shards[i]));
    put_step(batch, step);
  });
}

}  // namespace headrace::storage

#include "storage/shard.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "storage/error.h"
#include "storage/lmdb_check.h"
#include "storage/shard_format.h"

namespace headrace::storage {
namespace {

constexpr auto kLockPause = std::chrono::milliseconds(20);

// Requests of a process that was killed can still be under way; their descriptor holds the lock until they
// are done.
void lock(const File& file, double wait_seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(wait_seconds);
  while (flock(file.descriptor(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) {
      throw Error(ErrorKind::kFailed, fmt::format("cannot lock {}: {}", file.path(), system_text(errno)));
    }
    if (std::chrono::steady_clock::now() >= end) {
      throw Error(ErrorKind::kRefused,
                  fmt::format("another process has held {} for {:.0f} seconds", file.path(), wait_seconds),
                  "Wait until it has ended, or end it");
    }
    std::this_thread::sleep_for(kLockPause);
  }
}

// Reads a shard's records as the checker meets them.
class RecordReader {
 public:
  RecordReader(const std::string& path, const ShardIdentity& identity) : path_(path), identity_(identity) {}

  void visit(const LmdbValue& value) {
    if (value.key == kShardKey) {
      read_own(value);
    } else {
      read_block(value);
    }
  }
  uint64_t records() const { return own_.records; }
  bool has_own() const { return has_own_; }
  std::vector<PayloadPlace>& places() { return places_; }
  [[noreturn]] void corrupt(const std::string& why) const {
    throw Error(ErrorKind::kCorrupt,
                fmt::format("{} is not shard {} of this run: {}", path_, identity_.number, why),
                "Put the run's own shard there, or say with --shard-dir where it is");
  }

 private:
  template <typename Header>
  Header read_header(const LmdbValue& value, const std::array<char, 8>& magic) const {
    Header header;
    if (value.prefix.size() < sizeof header)
      corrupt(fmt::format("'{}' has {} bytes", value.key, value.bytes));
    std::memcpy(&header, value.prefix.data(), sizeof header);
    if (header.magic != magic || header.checksum != header_checksum(header)) {
      corrupt(fmt::format("the header of '{}' is damaged", value.key));
    }
    if (header.version != kShardVersion) {
      corrupt(fmt::format("it has version {}, and this program knows {}", header.version, kShardVersion));
    }
    const std::string_view run_id(header.run_id.data(), header.run_id.size());
    if (run_id != identity_.run_id) corrupt(fmt::format("it belongs to run {}", run_id));
    if (header.shard != identity_.number) corrupt(fmt::format("it is shard {}", header.shard));
    for (std::byte rest : value.prefix.subspan(sizeof header)) {
      if (rest != std::byte{0}) corrupt(fmt::format("the header of '{}' is damaged", value.key));
    }
    return header;
  }

  void read_own(const LmdbValue& value) {
    own_ = read_header<ShardHeader>(value, kShardMagic);
    if (own_.shards != identity_.count) corrupt(fmt::format("it is one of {} shards", own_.shards));
    has_own_ = true;
  }

  void read_block(const LmdbValue& value) {
    const auto header = read_header<BlockHeader>(value, kBlockMagic);
    if (value.key != block_key(header.block, header.slot)) {
      corrupt(fmt::format("'{}' holds block {}, slot {}", value.key, header.block, header.slot));
    }
    const uint64_t page_bytes = value.prefix.size() + kLmdbPageHeader;
    if (value.page == 0 || value.bytes != value.prefix.size() + header.payload_bytes) {
      corrupt(fmt::format("'{}' has {} bytes", value.key, value.bytes));
    }
    places_.push_back({header.block, header.slot, (value.page + 1) * page_bytes, header.payload_bytes});
  }

  const std::string& path_;
  const ShardIdentity& identity_;
  ShardHeader own_;
  bool has_own_ = false;
  std::vector<PayloadPlace> places_;
};

}  // namespace

Shard::Shard(const std::string& directory, double wait_seconds)
    : directory_(directory), blocks_(open_for_blocks(directory + "/data.mdb", OpenMode::kReadWrite)) {
  lock(blocks_.file, wait_seconds);
}

ShardStructure Shard::read_structure(const ShardIdentity& identity) const {
  const File file = File::open(path(), OpenMode::kRead);
  posix_fadvise(file.descriptor(), 0, 0, POSIX_FADV_RANDOM);  // no payload pages in the page cache
  RecordReader reader(path(), identity);
  const LmdbFile found = check_lmdb_file(file, true, [&](const LmdbValue& value) { reader.visit(value); });
  if (!reader.has_own()) reader.corrupt("it has no record of its own");
  if (reader.places().size() != reader.records()) {
    reader.corrupt(fmt::format("{} of {} records", reader.places().size(), reader.records()));
  }
  return {found.file_bytes, found.structure, std::move(reader.places())};
}

}  // namespace headrace::storage

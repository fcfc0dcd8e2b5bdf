#include "storage/bench/patterns.h"

#include <array>
#include <bit>

#include "storage/error.h"

namespace headrace::bench {
namespace {

using storage::IoKind;

constexpr std::array<std::pair<std::string_view, ReadWrite>, 7> kNames{
    {{"read", ReadWrite::kRead},
     {"write", ReadWrite::kWrite},
     {"rw", ReadWrite::kMixed},
     {"randread", ReadWrite::kRandomRead},
     {"randwrite", ReadWrite::kRandomWrite},
     {"randrw", ReadWrite::kRandomMixed},
     {"readwrite", ReadWrite::kMixed}}};

uint64_t mixed_bits(uint64_t z) {  // the finalizer of splitmix64
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

std::string_view read_write_name(ReadWrite rw) {
  for (const auto& [name, value] : kNames) {
    if (value == rw) return name;
  }
  return {};
}

std::optional<ReadWrite> parse_read_write(std::string_view name) {
  for (const auto& [known, value] : kNames) {
    if (known == name) return value;
  }
  return std::nullopt;
}

bool is_random(ReadWrite rw) { return rw >= ReadWrite::kRandomRead; }
bool reads(ReadWrite rw) { return rw != ReadWrite::kWrite && rw != ReadWrite::kRandomWrite; }
bool writes(ReadWrite rw) { return rw != ReadWrite::kRead && rw != ReadWrite::kRandomRead; }

uint64_t permuted(uint64_t index, uint64_t count, uint64_t seed) {
  if (count <= 1) return 0;
  const auto half_bits = static_cast<uint32_t>(std::bit_width(count - 1) + 1) / 2;
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  do {
    uint64_t left = index >> half_bits, right = index & mask;
    for (uint64_t round = 0; round < 4; ++round) {
      const uint64_t mixed = left ^ (mixed_bits(right + mixed_bits(seed + round)) & mask);
      left = right;
      right = mixed;
    }
    index = left << half_bits | right;
  } while (index >= count);
  return index;
}

FilePattern::FilePattern(FilePatternOptions options) : options_(std::move(options)) {
  HEADRACE_CHECK(options_.block_bytes > 0 && options_.file_bytes % options_.block_bytes == 0);
  HEADRACE_CHECK(!options_.files.empty() && options_.mix_read_percent <= 100);
  blocks_ = options_.file_bytes / options_.block_bytes * options_.files.size();
  const bool mixes = reads(options_.rw) && writes(options_.rw);
  read_share_ = mixes ? options_.mix_read_percent : reads(options_.rw) ? 100 : 0;
}

bool FilePattern::next(Access& access) {
  if (done_ == blocks_) {
    if (!options_.endless || blocks_ == 0) return false;
    done_ = 0;
  }
  ++done_;
  read_credit_ += read_share_;
  const bool read = read_credit_ >= 100;
  if (read) read_credit_ -= 100;
  const uint64_t block = place(turns_[read ? 0 : 1]++, read ? 0 : 1);
  access.kind = read ? IoKind::kRead : IoKind::kWrite;
  access.file = options_.files[block % options_.files.size()];
  access.offset = block / options_.files.size() * options_.block_bytes;
  access.bytes = options_.block_bytes;
  return true;
}

uint64_t FilePattern::place(uint64_t turn, uint64_t direction) const {
  const uint64_t round = turn / blocks_, index = turn % blocks_;
  if (!is_random(options_.rw)) return index;
  return permuted(index, blocks_, mixed_bits(options_.seed) + 2 * round + direction);
}

bool ListPattern::next(Access& access) {
  if (next_ == list_.size()) {
    if (!endless_ || list_.empty()) return false;
    next_ = 0;
  }
  access = list_[next_++];
  return true;
}

}  // namespace headrace::bench

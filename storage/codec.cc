#include "storage/codec.h"

#include <fmt/format.h>
#include <zstd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "storage/error.h"

namespace headrace::storage {
namespace {

constexpr int kMostFastLevel = 2;  // levels that search as fast as zstd can
constexpr size_t kMostPlanes = 16, kFrameOverhead = 128;

static_assert(std::endian::native == std::endian::little, "the highest byte of a value is its last");

// Sixteen values at a time, in the compilers' vectors of sixteen bytes: as many rows as a value has bytes.
constexpr size_t kLanes = 16;
using Row __attribute__((vector_size(kLanes))) = uint8_t;
template <typename Value>
using Words __attribute__((vector_size(kLanes))) = Value;

// A perfect shuffle of the bytes of all rows: the first half's alternate with the second half's. It moves
// each bit of a byte's position up by one and the highest to the front, so that four of them turn the bytes
// of sixteen values (position: value, then byte) into planes (byte, then value), and log2 of the rows turn
// back.
template <size_t kRows>
void shuffle(Row (&rows)[kRows], int times) {
  for (; times > 0; times--) {
    Row mixed[kRows];
    for (size_t i = 0; i < kRows / 2; i++) {
      const Row a = rows[i], b = rows[i + kRows / 2];
      mixed[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      mixed[2 * i + 1] =
          __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    std::memcpy(rows, mixed, sizeof mixed);
  }
}

template <typename Value>
void rotate_rows(Row (&rows)[sizeof(Value)], int bits) {
  for (Row& row : rows) {
    Words<Value> words;
    std::memcpy(&words, &row, sizeof words);
    words = words << bits | words >> (8 * int(sizeof(Value)) - bits);
    std::memcpy(&row, &words, sizeof words);
  }
}

// One pass over the values writes all of their byte planes.
template <typename Value, bool kRotate>
void split_words(const std::byte* from, size_t count, std::byte* to) {
  constexpr size_t kBytes = sizeof(Value);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Row rows[kBytes];
    std::memcpy(rows, from + i * kBytes, sizeof rows);
    if constexpr (kRotate) rotate_rows<Value>(rows, 1);
    shuffle(rows, std::countr_zero(kLanes));
    for (size_t byte = 0; byte < kBytes; byte++)
      std::memcpy(to + byte * count + i, &rows[kBytes - 1 - byte], kLanes);
  }
  for (; i < count; i++) {
    Value value;
    std::memcpy(&value, from + i * kBytes, kBytes);
    if constexpr (kRotate) value = std::rotl(value, 1);
    for (size_t byte = 0; byte < kBytes; byte++)
      to[byte * count + i] = static_cast<std::byte>(value >> 8 * (kBytes - 1 - byte));
  }
}

template <typename Value, bool kRotate>
void join_words(const std::byte* from, size_t count, std::byte* to) {
  constexpr size_t kBytes = sizeof(Value);
  size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    Row rows[kBytes];
    for (size_t byte = 0; byte < kBytes; byte++)
      std::memcpy(&rows[kBytes - 1 - byte], from + byte * count + i, kLanes);
    shuffle(rows, std::countr_zero(kBytes));
    if constexpr (kRotate) rotate_rows<Value>(rows, 8 * int(kBytes) - 1);
    std::memcpy(to + i * kBytes, rows, sizeof rows);
  }
  for (; i < count; i++) {
    Value value = 0;
    for (size_t byte = 0; byte < kBytes; byte++)
      value = static_cast<Value>(value << 8 | static_cast<Value>(from[byte * count + i]));
    if constexpr (kRotate) value = std::rotr(value, 1);
    std::memcpy(to + i * kBytes, &value, kBytes);
  }
}

// How many zstd frames values become: one for each byte plane, as planes are coded by different tables.
size_t plane_count(Split split, uint32_t element_bytes) { return split == Split::kNone ? 1 : element_bytes; }

void check_sizes(uint32_t element_bytes, size_t from, size_t to) {
  HEADRACE_CHECK(element_bytes > 0 && from == to && from % element_bytes == 0, "values of an odd size");
}

size_t zstd(size_t result, const char* what) {
  HEADRACE_CHECK(!ZSTD_isError(result), fmt::format("{}: {}", what, ZSTD_getErrorName(result)));
  return result;
}

}  // namespace

Split best_split(uint32_t element_bytes) {
  if (element_bytes == 1) return Split::kNone;
  return element_bytes == 2 || element_bytes == 4 ? Split::kRotated : Split::kBytes;
}

void split_values(Split split, uint32_t element_bytes, std::span<const std::byte> from,
                  std::span<std::byte> to) {
  check_sizes(element_bytes, from.size(), to.size());
  const size_t count = from.size() / element_bytes;
  if (split == Split::kNone || element_bytes == 1) {
    std::copy(from.begin(), from.end(), to.begin());
  } else if (element_bytes == 2) {
    (split == Split::kRotated ? split_words<uint16_t, true> : split_words<uint16_t, false>)(from.data(),
                                                                                            count, to.data());
  } else if (element_bytes == 4) {
    (split == Split::kRotated ? split_words<uint32_t, true> : split_words<uint32_t, false>)(from.data(),
                                                                                            count, to.data());
  } else {
    for (size_t i = 0; i < from.size(); i++)
      to[(element_bytes - 1 - i % element_bytes) * count + i / element_bytes] = from[i];
  }
}

void join_values(Split split, uint32_t element_bytes, std::span<const std::byte> from,
                 std::span<std::byte> to) {
  check_sizes(element_bytes, from.size(), to.size());
  const size_t count = from.size() / element_bytes;
  if (split == Split::kNone || element_bytes == 1) {
    std::copy(from.begin(), from.end(), to.begin());
  } else if (element_bytes == 2) {
    (split == Split::kRotated ? join_words<uint16_t, true> : join_words<uint16_t, false>)(from.data(), count,
                                                                                          to.data());
  } else if (element_bytes == 4) {
    (split == Split::kRotated ? join_words<uint32_t, true> : join_words<uint32_t, false>)(from.data(), count,
                                                                                          to.data());
  } else {
    for (size_t i = 0; i < to.size(); i++)
      to[i] = from[(element_bytes - 1 - i % element_bytes) * count + i / element_bytes];
  }
}

struct Compressor::State {
  State(int level, uint64_t most_bytes)
      : split(most_bytes), packed(ZSTD_compressBound(most_bytes) + kMostPlanes * kFrameOverhead) {
    if (context == nullptr) throw std::bad_alloc();
    zstd(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level), "a level for zstd");
    if (level <= kMostFastLevel) {
      // Byte planes hold no repetitions, and the short ones that chance makes cost more than they save: what
      // compresses is how often each byte occurs.
      zstd(ZSTD_CCtx_setParameter(context, ZSTD_c_strategy, ZSTD_fast), "a strategy for zstd");
      zstd(ZSTD_CCtx_setParameter(context, ZSTD_c_minMatch, 7), "a least match for zstd");
      zstd(ZSTD_CCtx_setParameter(context, ZSTD_c_hashLog, 12), "a table for zstd");
    }
    // Content is checked by its own checksum. The first use takes the memory that all later ones need.
    zstd(ZSTD_compress2(context, packed.data(), packed.size(), split.data(), split.size()), "zstd");
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { ZSTD_freeCCtx(context); }

  ZSTD_CCtx* context = ZSTD_createCCtx();
  std::vector<std::byte> split, packed;
};

Compressor::Compressor(int level, uint64_t most_bytes) {
  HEADRACE_CHECK(level >= kLeastLevel && level <= kMostLevel);
  state_ = std::make_unique<State>(level, most_bytes);
}
Compressor::~Compressor() = default;
Compressor::Compressor(Compressor&&) noexcept = default;
Compressor& Compressor::operator=(Compressor&&) noexcept = default;

std::span<const std::byte> Compressor::compress(Split split, uint32_t element_bytes,
                                                std::span<const std::byte> values) {
  HEADRACE_CHECK(values.size() <= state_->split.size() && element_bytes <= kMostPlanes);
  const std::span<std::byte> bytes = std::span(state_->split).first(values.size());
  split_values(split, element_bytes, values, bytes);
  const size_t planes = plane_count(split, element_bytes), plane_bytes = bytes.size() / planes;
  size_t packed = 0;
  for (size_t plane = 0; plane < planes; plane++) {
    packed +=
        zstd(ZSTD_compress2(state_->context, state_->packed.data() + packed, state_->packed.size() - packed,
                            bytes.data() + plane * plane_bytes, plane_bytes),
             "zstd");
  }
  if (packed >= values.size()) return values;
  return std::span(state_->packed).first(packed);
}

uint64_t Compressor::memory_bytes() const {
  return state_->split.size() + state_->packed.size() + ZSTD_sizeof_CCtx(state_->context);
}

struct Decompressor::State {
  explicit State(uint64_t most_bytes) : split(most_bytes) {
    if (context == nullptr) throw std::bad_alloc();
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { ZSTD_freeDCtx(context); }

  // Fills `to` from the first frame of `packed`, and returns that frame's length. All of the content is
  // decompressed at once into memory of its size, which serves as the window too: zstd allocates none,
  // whatever the frame asks for.
  size_t decompress(std::span<const std::byte> packed, std::span<std::byte> to) const {
    // The library may know formats of before 2016 as well, which allocate by what they claim.
    constexpr uint32_t kMagic = ZSTD_MAGICNUMBER;
    if (packed.size() < sizeof kMagic || std::memcmp(packed.data(), &kMagic, sizeof kMagic) != 0)
      throw CodecError("it is no zstd frame");
    const unsigned long long claimed = ZSTD_getFrameContentSize(packed.data(), packed.size());
    if (claimed == ZSTD_CONTENTSIZE_ERROR) throw CodecError("it is no zstd frame");
    if (claimed != to.size()) throw CodecError("its zstd frame claims another size than its content has");
    const size_t length = ZSTD_findFrameCompressedSize(packed.data(), packed.size());
    if (ZSTD_isError(length)) throw CodecError("its zstd frame is not whole");
    const size_t result = ZSTD_decompressDCtx(context, to.data(), to.size(), packed.data(), length);
    if (ZSTD_isError(result)) throw CodecError(fmt::format("zstd: {}", ZSTD_getErrorName(result)));
    if (result != to.size()) throw CodecError("its zstd frame holds another size than its content has");
    return length;
  }

  ZSTD_DCtx* context = ZSTD_createDCtx();
  std::vector<std::byte> split;
};

Decompressor::Decompressor(uint64_t most_bytes) : state_(std::make_unique<State>(most_bytes)) {}
Decompressor::~Decompressor() = default;
Decompressor::Decompressor(Decompressor&&) noexcept = default;
Decompressor& Decompressor::operator=(Decompressor&&) noexcept = default;

void Decompressor::decompress(Split split, uint32_t element_bytes, std::span<const std::byte> packed,
                              std::span<std::byte> values) {
  HEADRACE_CHECK(values.size() <= state_->split.size());
  if (packed.size() > values.size()) throw CodecError("it is larger than its content");
  if (packed.size() == values.size()) {
    std::copy(packed.begin(), packed.end(), values.begin());
    return;
  }
  const std::span<std::byte> bytes = std::span(state_->split).first(values.size());
  const size_t planes = plane_count(split, element_bytes), plane_bytes = bytes.size() / planes;
  for (size_t plane = 0; plane < planes; plane++)
    packed = packed.subspan(state_->decompress(packed, bytes.subspan(plane * plane_bytes, plane_bytes)));
  if (!packed.empty()) throw CodecError("something follows its zstd frames");
  join_values(split, element_bytes, bytes, values);
}

}  // namespace headrace::storage

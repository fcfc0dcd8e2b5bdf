// Compression of values: they are split into planes of single bytes, which zstd then packs. Weights and
// moments have few exponents and random mantissas, and only bytes that hold nothing but an exponent compress
// well. The one place that knows zstd.
//
// Threads: a Compressor or Decompressor serves one thread at a time. Failure: compressing does not fail;
// decompressing is for input of any origin, and throws CodecError for what is not what it claims to be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

namespace headrace::storage {

// How values become bytes, before zstd. The numbers are on disk.
enum class Split : uint32_t {
  kNone = 0,     // as they are
  kBytes = 1,    // all highest bytes, then all next ones, ...
  kRotated = 2,  // the same, of values rotated left by one bit: the exponent is a byte of its own
};
inline constexpr uint32_t kSplits = 3;

// The split that serves values of a plane best: floating point of 2 or 4 bytes is rotated.
Split best_split(uint32_t element_bytes);

// `from` and `to` have the same size, a multiple of element_bytes, and do not overlap.
void split_values(Split split, uint32_t element_bytes, std::span<const std::byte> from,
                  std::span<std::byte> to);
void join_values(Split split, uint32_t element_bytes, std::span<const std::byte> from,
                 std::span<std::byte> to);

// The message says what is wrong, without a place.
class CodecError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

inline constexpr int kLeastLevel = 1, kMostLevel = 19;  // of zstd(1)

class Compressor {
 public:
  // For pieces of at most `most_bytes`. All memory is taken here.
  Compressor(int level, uint64_t most_bytes);
  ~Compressor();
  Compressor(Compressor&&) noexcept;
  Compressor& operator=(Compressor&&) noexcept;

  // What became of `values`: valid until the next call. As many bytes as `values`: these themselves, because
  // they do not compress.
  std::span<const std::byte> compress(Split split, uint32_t element_bytes, std::span<const std::byte> values);
  uint64_t memory_bytes() const;  // that it holds

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class Decompressor {
 public:
  explicit Decompressor(uint64_t most_bytes);
  ~Decompressor();
  Decompressor(Decompressor&&) noexcept;
  Decompressor& operator=(Decompressor&&) noexcept;

  // Fills `values`, whose size must be what was compressed. Throws CodecError where `packed` does not hold
  // exactly that; takes no memory by what `packed` says.
  void decompress(Split split, uint32_t element_bytes, std::span<const std::byte> packed,
                  std::span<std::byte> values);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace headrace::storage

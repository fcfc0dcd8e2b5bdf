// Splitting into byte planes and compressing: nothing is lost, what is made up is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "storage/codec.h"

namespace headrace {
namespace {

using namespace storage;

std::vector<std::byte> random_bytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// As bfloat16 weights are: normally distributed, so with few exponents.
std::vector<std::byte> weights(size_t count) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal(0, 0.02F);
  std::vector<std::byte> bytes(2 * count);
  for (size_t i = 0; i < count; i++) {
    const float value = normal(random);
    std::memcpy(bytes.data() + 2 * i, reinterpret_cast<const char*>(&value) + 2, 2);
  }
  return bytes;
}

TEST(Codec, SplittingIsUndoneByJoining) {
  for (const uint32_t element_bytes : {1u, 2u, 3u, 4u, 8u}) {
    for (const Split split : {Split::kNone, Split::kBytes, Split::kRotated}) {
      for (const size_t count : {size_t{0}, size_t{1}, size_t{15}, size_t{16}, size_t{17}, size_t{1000}}) {
        const std::vector<std::byte> values = random_bytes(count * element_bytes, count + element_bytes);
        std::vector<std::byte> bytes(values.size()), back(values.size());
        split_values(split, element_bytes, values, bytes);
        join_values(split, element_bytes, bytes, back);
        EXPECT_EQ(back, values) << element_bytes << " " << count;
      }
    }
  }
}

TEST(Codec, TheHighestBytesComeFirst) {
  std::vector<uint32_t> values(20, 0x11223344);
  values[18] = 0x80000001;
  const auto from = std::as_bytes(std::span(values));
  std::vector<std::byte> to(from.size());
  const auto at = [&](size_t index) { return std::to_integer<int>(to[index]); };
  split_values(Split::kBytes, 4, from, to);
  EXPECT_EQ(at(0), 0x11);
  EXPECT_EQ(at(19 + 20), 0x22);
  EXPECT_EQ(at(79), 0x44);
  EXPECT_EQ(at(18), 0x80);
  split_values(Split::kRotated, 4, from, to);
  EXPECT_EQ(at(0), 0x22) << "0x22446688";
  EXPECT_EQ(at(18), 0x00) << "0x00000003";
  EXPECT_EQ(at(78), 0x03);
}

TEST(Codec, EveryLevelGivesBackWhatItWasGiven) {
  const std::vector<std::byte> values = weights(50000);
  Decompressor decompressor(values.size());
  for (int level = kLeastLevel; level <= kMostLevel; level += 3) {
    Compressor compressor(level, values.size());
    const auto packed = compressor.compress(Split::kRotated, 2, values);
    EXPECT_LT(packed.size(), values.size() * 3 / 4) << level;
    std::vector<std::byte> back(values.size());
    decompressor.decompress(Split::kRotated, 2, packed, back);
    EXPECT_EQ(back, values) << level;
  }
}

TEST(Codec, BytesThatDoNotCompressAreKeptAsTheyAre) {
  const std::vector<std::byte> values = random_bytes(4000, 5);
  Compressor compressor(1, values.size());
  const auto packed = compressor.compress(Split::kRotated, 4, values);
  EXPECT_EQ(packed.data(), values.data());
  std::vector<std::byte> back(values.size());
  Decompressor(values.size()).decompress(Split::kRotated, 4, packed, back);
  EXPECT_EQ(back, values);
}

TEST(Codec, RefusesOtherSizesWithoutTakingThem) {
  const std::vector<std::byte> values = weights(5000);
  Compressor compressor(1, values.size());
  const auto made = compressor.compress(Split::kRotated, 2, values);
  const std::vector<std::byte> packed(made.begin(), made.end());
  Decompressor decompressor(2 * values.size());
  std::vector<std::byte> shorter(values.size() - 2), longer(values.size() + 2), whole(values.size());
  EXPECT_THROW(decompressor.decompress(Split::kRotated, 2, packed, shorter), CodecError);
  EXPECT_THROW(decompressor.decompress(Split::kRotated, 2, packed, longer), CodecError);
  std::vector<std::byte> tail = packed;
  tail.push_back(std::byte{0});
  EXPECT_THROW(decompressor.decompress(Split::kRotated, 2, tail, whole), CodecError);
  EXPECT_THROW(decompressor.decompress(Split::kRotated, 2, std::span(packed).first(packed.size() - 1), whole),
               CodecError);
  EXPECT_THROW(decompressor.decompress(Split::kRotated, 2, random_bytes(100, 1), whole), CodecError);
  EXPECT_THROW(decompressor.decompress(Split::kRotated, 2, {}, whole), CodecError);
}

// A frame that asks for a window of 2 GiB and claims the right size: zstd must not take the window.
TEST(Codec, AHugeWindowCostsNothing) {
  const unsigned char frame[] = {0x28,
                                 0xB5,
                                 0x2F,
                                 0xFD,
                                 0x80 /* content size of 4 bytes, a window */,
                                 0xA8 /* 2 GiB */,
                                 0x00,
                                 0x10,
                                 0x00,
                                 0x00 /* 4096 */,
                                 0x03,
                                 0x80,
                                 0x00 /* the last block: one byte, 4096 times */,
                                 0x55};
  std::vector<std::byte> values(4096);
  Decompressor decompressor(values.size());
  try {
    decompressor.decompress(Split::kNone, 1, std::as_bytes(std::span(frame)), values);
    EXPECT_EQ(std::count(values.begin(), values.end(), std::byte{0x55}), 4096);
  } catch (const CodecError&) {
    // As good.
  }
}

// Formats from before 2016, whose decoders allocate, are told by the first byte.
TEST(Codec, FramesOfOldFormatsAreRefused) {
  std::vector<std::byte> values(200);
  Decompressor decompressor(values.size());
  for (const int first : {0x25, 0x26, 0x27}) {
    std::vector<std::byte> frame{std::byte(first), std::byte{0xB5}, std::byte{0x2F}, std::byte{0xFD},
                                 std::byte{0x20},  std::byte{0x64}, std::byte{0xFD}, std::byte{0}};
    frame.resize(100);
    try {
      decompressor.decompress(Split::kRotated, 2, frame, values);
      ADD_FAILURE() << first;
    } catch (const CodecError& error) {
      EXPECT_STREQ(error.what(), "it is no zstd frame") << first;
    }
  }
}

TEST(Codec, RandomChangesAreRefusedOrGiveTheRightSize) {
  const std::vector<std::byte> values = weights(3000);
  Compressor compressor(1, values.size());
  const auto made = compressor.compress(Split::kRotated, 2, values);
  std::vector<std::byte> packed(made.begin(), made.end()), back(values.size());
  Decompressor decompressor(values.size());
  std::mt19937_64 random(11);
  int refused = 0;
  for (int round = 0; round < 3000; round++) {
    const size_t at = random() % packed.size();
    const std::byte before = packed[at];
    packed[at] ^= static_cast<std::byte>(1 + random() % 255);
    try {
      decompressor.decompress(Split::kRotated, 2, packed, back);
    } catch (const CodecError&) {
      refused++;
    }
    packed[at] = before;
  }
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace headrace

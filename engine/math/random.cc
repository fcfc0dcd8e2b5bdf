#include "engine/math/random.h"

#include <bit>
#include <cmath>

#include "engine/math/exact.h"
#include "engine/math/parallel.h"
#include "storage/error.h"

namespace headrace::math {
namespace {

constexpr int64_t kTaskValues = 16 * 1024;
constexpr int kFeistelRounds = 8;

PhiloxCounter block_of(uint64_t seed, uint64_t stream, uint64_t index) {
  const uint64_t block = index / 4;
  return philox4x32_10({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                        static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                       {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// The four variates of a block, two of each pair of its words.
std::array<double, 4> normals_of(const PhiloxCounter& words) {
  std::array<double, 4> result;
  for (size_t pair = 0; pair < 4; pair += 2) {
    const double uniform = (static_cast<double>(words[pair]) + 1) / 4294967296.0;  // in (0, 1]
    const double radius = std::sqrt(-2 * exact_log(uniform));
    const SineCosine angle = exact_sine_cosine(words[pair + 1]);
    result[pair] = radius * angle.cosine;
    result[pair + 1] = radius * angle.sine;
  }
  return result;
}

}  // namespace

PhiloxCounter philox4x32_10(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; round++) {
    const uint64_t product0 = uint64_t{0xD2511F53} * counter[0];
    const uint64_t product1 = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(product1),
               static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(product0)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

uint32_t random_bits(uint64_t seed, uint64_t stream, uint64_t index) {
  return block_of(seed, stream, index)[index % 4];
}

void fill_normal(uint64_t seed, uint64_t stream, uint64_t first_index, int64_t n, float mean, float deviation,
                 float* out) {
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    std::array<double, 4> values;
    for (int64_t i = first; i < last; i++) {
      const uint64_t index = first_index + static_cast<uint64_t>(i);
      if (i == first || index % 4 == 0) values = normals_of(block_of(seed, stream, index));
      out[i] =
          static_cast<float>(static_cast<double>(mean) + static_cast<double>(deviation) * values[index % 4]);
    }
  });
}

uint64_t permuted(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index) {
  HEADRACE_CHECK(index < n);
  // A Feistel network permutes the numbers of 2 `bits` bits, the least such set that holds n; what falls
  // outside [0, n) is sent through again (cycle walking), four times at most on average.
  const int bits = std::max(1, (static_cast<int>(std::bit_width(n - 1)) + 1) / 2);
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  const PhiloxKey key = {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  do {
    uint64_t left = index >> bits, right = index & mask;
    for (uint32_t round = 0; round < kFeistelRounds; round++) {
      const PhiloxCounter mixed =
          philox4x32_10({static_cast<uint32_t>(right), round, static_cast<uint32_t>(epoch),
                         static_cast<uint32_t>(epoch >> 32)},
                        key);
      const uint64_t next = left ^ (mixed[0] & mask);
      left = right;
      right = next;
    }
    index = left << bits | right;
  } while (index >= n);
  return index;
}

}  // namespace headrace::math

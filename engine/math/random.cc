#include "engine/math/random.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "engine/math/exact.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "storage/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/random.cc"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef HEADRACE_NORMAL_BATCH
#define HEADRACE_NORMAL_BATCH
namespace headrace::math {
constexpr int kBatch = 64;
struct NormalBatch {
  uint32_t bits[kBatch];
  double values[kBatch];
};
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// Plain loops, which the compiler vectorizes for each target; without multiply-adds they round alike on all.
HWY_NOINLINE void normals(NormalBatch& batch) {
  constexpr int kPairs = kBatch / 2;
  HWY_ALIGN_MAX double radius[kPairs];
  SineCosine angle[kPairs];
  for (int pair = 0; pair < kPairs; pair++) {
    const double uniform = (static_cast<double>(batch.bits[2 * pair]) + 1) / 4294967296.0;  // in (0, 1]
    radius[pair] = -2 * exact_log_normal(uniform);
  }
  const hwy::HWY_NAMESPACE::CappedTag<double, kPairs> d;
  for (size_t pair = 0; pair < kPairs; pair += MaxLanes(d)) {
    Store(Sqrt(Load(d, radius + pair)), d, radius + pair);  // the C library's would stop the loop for errno
  }
  for (int pair = 0; pair < kPairs; pair++) angle[pair] = exact_sine_cosine(batch.bits[2 * pair + 1]);
  for (int pair = 0; pair < kPairs; pair++) {
    batch.values[2 * pair] = radius[pair] * angle[pair].cosine;
    batch.values[2 * pair + 1] = radius[pair] * angle[pair].sine;
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(normals);

constexpr int64_t kTaskValues = 16 * 1024;
constexpr int kFeistelRounds = 8;

PhiloxCounter block_of(uint64_t seed, uint64_t stream, uint64_t index) {
  const uint64_t block = index / 4;
  return philox4x32_10({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                        static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                       {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
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
    for (int64_t i = first; i < last;) {
      const uint64_t index = first_index + static_cast<uint64_t>(i);
      NormalBatch batch;
      for (uint64_t block = 0; block < kBatch / 4; block++) {
        const PhiloxCounter words = block_of(seed, stream, index / 4 * 4 + 4 * block);
        std::copy(words.begin(), words.end(), batch.bits + 4 * block);
      }
      HWY_DYNAMIC_DISPATCH(normals)(batch);
      const auto skipped = static_cast<int64_t>(index % 4);
      const int64_t count = std::min<int64_t>(last - i, kBatch - skipped);
      for (int64_t j = 0; j < count; j++) {
        out[i + j] = static_cast<float>(static_cast<double>(mean) +
                                        static_cast<double>(deviation) * batch.values[skipped + j]);
      }
      i += count;
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
#endif  // HWY_ONCE

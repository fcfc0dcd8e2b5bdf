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
constexpr uint64_t kBatchBlocks = 16;  // counters of the generator
constexpr uint64_t kBatch = 4 * kBatchBlocks;

struct NormalBatch {
  uint64_t seed, stream, first_block;
  double mean, deviation;
  float values[kBatch];
};

inline PhiloxCounter block_of(uint64_t seed, uint64_t stream, uint64_t block) {
  return philox4x32_10({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                        static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)},
                       {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR

HWY_NOINLINE void normals(NormalBatch& batch) {
  for (uint64_t block = 0; block < kBatchBlocks; block++) {
    const PhiloxCounter words = block_of(batch.seed, batch.stream, batch.first_block + block);
    for (uint64_t pair = 0; pair < 2; pair++) {
      const double uniform = (static_cast<double>(words[2 * pair]) + 1) / 4294967296.0;  // in (0, 1]
      const double radius = std::sqrt(-2 * log_by_series(uniform, kShortLogSeries));
      const SineCosine angle = sine_cosine_of_turns(words[2 * pair + 1]);
      float* const out = batch.values + 4 * block + 2 * pair;
      out[0] = static_cast<float>(batch.mean + batch.deviation * (radius * angle.cosine));
      out[1] = static_cast<float>(batch.mean + batch.deviation * (radius * angle.sine));
    }
  }
}

#else

// The same operations in the same order as in exact.h and philox4x32_10(), a counter in each lane. Without
// multiply-adds they round alike on every target.
namespace hn = hwy::HWY_NAMESPACE;
using Doubles = hn::CappedTag<double, kBatchBlocks>;
using Words = hn::RebindToUnsigned<Doubles>;  // 32-bit words, each in the low half of a lane
using Signed = hn::RebindToSigned<Doubles>;
using HalfWords = hn::Repartition<uint32_t, Words>;
using VecD = hn::Vec<Doubles>;
using VecW = hn::Vec<Words>;

// Exact below 2^52.
HWY_INLINE VecD to_double(VecW words) {
  const VecW exponent = hn::Set(Words(), uint64_t{0x4330000000000000});  // of 2^52
  return hn::Sub(hn::BitCast(Doubles(), hn::Or(words, exponent)), hn::Set(Doubles(), 4503599627370496.0));
}

HWY_INLINE VecW times(VecW words, uint64_t factor) {  // of 32 bits each
  return hn::MulEven(hn::BitCast(HalfWords(), words), hn::BitCast(HalfWords(), hn::Set(Words(), factor)));
}

struct Counters {
  VecW words[4];
};

HWY_INLINE Counters philox(Counters counter, uint64_t seed) {
  const Words w;
  const VecW low = hn::Set(w, uint64_t{0xffffffff});
  auto key0 = static_cast<uint32_t>(seed), key1 = static_cast<uint32_t>(seed >> 32);
  HWY_UNROLL(10)
  for (int round = 0; round < 10; round++) {
    const VecW product0 = times(counter.words[0], 0xD2511F53);
    const VecW product1 = times(counter.words[2], 0xCD9E8D57);
    counter = {{hn::Xor(hn::ShiftRight<32>(product1), hn::Xor(counter.words[1], hn::Set(w, uint64_t{key0}))),
                hn::And(product1, low),
                hn::Xor(hn::ShiftRight<32>(product0), hn::Xor(counter.words[3], hn::Set(w, uint64_t{key1}))),
                hn::And(product0, low)}};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return counter;
}

HWY_INLINE VecD log_normal(VecD x) {
  const Doubles d;
  const Signed i;
  const VecD one = hn::Set(d, 1.0);
  const auto bits = hn::BitCast(i, x);
  const auto exponent = hn::ShiftRight<52>(hn::Sub(bits, hn::Set(i, int64_t{0x3fe6a09e667f3bcd})));
  const VecD y = hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<52>(exponent)));
  const VecD z = hn::Div(hn::Sub(y, one), hn::Add(y, one)), square = hn::Mul(z, z);
  VecD series = hn::Zero(d);
  HWY_UNROLL(5)
  for (const double term : kShortLogSeries) series = hn::Mul(hn::Add(series, hn::Set(d, term)), square);
  const VecD rest = hn::Mul(hn::Set(d, 2.0), hn::Add(z, hn::Mul(z, series)));
  return hn::Add(hn::Mul(hn::ConvertTo(d, exponent), hn::Set(d, kLogOf2)), rest);
}

struct SinesCosines {
  VecD sine, cosine;
};

HWY_INLINE SinesCosines sine_cosine(VecW turns) {
  const Doubles d;
  const Words w;
  const VecD one = hn::Set(d, 1.0);
  // The nearest quarter turn, of four, and the angle from it: turns - 2^30 quarters, as the sum may go round.
  const VecW quarter = hn::ShiftRight<30>(hn::Add(turns, hn::Set(w, uint64_t{1} << 29)));
  const VecD rest =
      hn::Sub(to_double(turns), hn::Mul(to_double(quarter), hn::Set(d, static_cast<double>(1 << 30))));
  const VecD x = hn::Mul(rest, hn::Set(d, kTurnFraction)), square = hn::Mul(x, x);
  VecD sine = hn::Zero(d), cosine = hn::Zero(d);
  HWY_UNROLL(5)
  for (size_t term = 0; term < std::size(kSineSeries); term++) {
    sine = hn::Mul(hn::Sub(one, sine), hn::Mul(square, hn::Set(d, kSineSeries[term])));
    cosine = hn::Mul(hn::Sub(one, cosine), hn::Mul(square, hn::Set(d, kCosineSeries[term])));
  }
  sine = hn::Sub(x, hn::Mul(x, sine));
  cosine = hn::Sub(one, cosine);
  const VecW next = hn::Add(quarter, hn::Set(w, uint64_t{1}));
  const auto odd = hn::Gt(to_double(hn::And(quarter, hn::Set(w, uint64_t{1}))), hn::Zero(d));
  const VecD sine_sign = hn::Sub(one, to_double(hn::And(quarter, hn::Set(w, uint64_t{2}))));
  const VecD cosine_sign = hn::Sub(one, to_double(hn::And(next, hn::Set(w, uint64_t{2}))));
  return {hn::Mul(hn::IfThenElse(odd, cosine, sine), sine_sign),
          hn::Mul(hn::IfThenElse(odd, sine, cosine), cosine_sign)};
}

HWY_NOINLINE void normals(NormalBatch& batch) {
  const Doubles d;
  const Words w;
  HWY_ALIGN_MAX double values[kBatch];
  for (uint64_t block = 0; block < kBatchBlocks; block += hn::Lanes(d)) {
    const VecW counter = hn::Add(hn::Iota(w, uint64_t{0}), hn::Set(w, batch.first_block + block));
    const VecW low = hn::Set(w, uint64_t{0xffffffff});
    const Counters words = philox({{hn::And(counter, low), hn::ShiftRight<32>(counter),
                                    hn::Set(w, batch.stream & 0xffffffff), hn::Set(w, batch.stream >> 32)}},
                                  batch.seed);
    VecD cosine[2], sine[2];
    HWY_UNROLL(2)
    for (int pair = 0; pair < 2; pair++) {
      const VecD uniform = hn::Mul(hn::Add(to_double(words.words[2 * pair]), hn::Set(d, 1.0)),
                                   hn::Set(d, 1.0 / 4294967296.0));  // in (0, 1]
      const VecD radius = hn::Sqrt(hn::Mul(hn::Set(d, -2.0), log_normal(uniform)));
      const SinesCosines angle = sine_cosine(words.words[2 * pair + 1]);
      cosine[pair] = hn::Mul(radius, angle.cosine);
      sine[pair] = hn::Mul(radius, angle.sine);
    }
    hn::StoreInterleaved4(cosine[0], sine[0], cosine[1], sine[1], d, values + 4 * block);
  }
  const VecD mean = hn::Set(d, batch.mean), deviation = hn::Set(d, batch.deviation);
  const hn::Rebind<float, Doubles> f;
  for (uint64_t i = 0; i < kBatch; i += hn::Lanes(d)) {
    const VecD value = hn::Add(mean, hn::Mul(deviation, hn::Load(d, values + i)));
    hn::StoreU(hn::DemoteTo(f, value), f, batch.values + i);
  }
}

#endif  // HWY_TARGET == HWY_SCALAR

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(normals);

constexpr int64_t kTaskValues = 16 * 1024;
constexpr int kFeistelRounds = 8;

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
  return block_of(seed, stream, index / 4)[index % 4];
}

void fill_normal(uint64_t seed, uint64_t stream, uint64_t first_index, int64_t n, float mean, float deviation,
                 float* out) {
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    NormalBatch batch{seed, stream, 0, static_cast<double>(mean), static_cast<double>(deviation), {}};
    for (int64_t i = first; i < last;) {
      const uint64_t index = first_index + static_cast<uint64_t>(i);
      batch.first_block = index / 4;
      HWY_DYNAMIC_DISPATCH(normals)(batch);
      const auto skipped = static_cast<int64_t>(index % 4);
      const int64_t count = std::min<int64_t>(last - i, static_cast<int64_t>(kBatch) - skipped);
      std::copy_n(batch.values + skipped, count, out + i);
      i += count;
    }
  });
}

void fill_uniform(uint64_t seed, uint64_t stream, uint64_t first_index, int64_t n, float range, float* out) {
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i++) {
      const uint32_t bits = random_bits(seed, stream, first_index + static_cast<uint64_t>(i)) >> 8;
      out[i] = range * (static_cast<float>(bits) / 8388608.0F - 1.0F);  // 2^23: exact
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

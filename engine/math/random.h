// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): each value is a function of (seed,
// stream, index), so that no generator state exists and any range can be drawn anywhere, in any order, on any
// thread.
#pragma once

#include <array>
#include <cstdint>

namespace headrace::math {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

PhiloxCounter philox4x32_10(PhiloxCounter counter, PhiloxKey key);

// 32 uniform bits, of word index % 4 of the block of counter (index / 4, stream) under key seed.
uint32_t random_bits(uint64_t seed, uint64_t stream, uint64_t index);

// out[i] = a normal variate for index first_index + i (Box and Muller 1958; 32 bits of uniform each, so at
// most 6.7 deviations from the mean). The calling arena shares the work.
void fill_normal(uint64_t seed, uint64_t stream, uint64_t first_index, int64_t n, float mean, float deviation,
                 float* out);

// out[i] = a number evenly drawn from [-range, range) for index first_index + i, in steps of range / 2^23.
void fill_uniform(uint64_t seed, uint64_t stream, uint64_t first_index, int64_t n, float range, float* out);

// Where a pseudorandom permutation of [0, n), n > 0, takes `index`: constant time and memory. One permutation
// for each (seed, epoch).
uint64_t permuted(uint64_t seed, uint64_t epoch, uint64_t n, uint64_t index);

}  // namespace headrace::math

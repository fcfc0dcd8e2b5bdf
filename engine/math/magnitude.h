// The smallest of many weights, found exactly and pruned. Plain functions over the two planes of a block's
// weights (engine/math/views.h); nothing is allocated, and counts of blocks add up in any order.
//
// A pruned weight is one whose bits are those of -0.0 (engine/math/updates.h). Weights are ordered by their
// key: pruned ones first, then by magnitude; equal keys by where they lie in the tensor. The k smallest
// follow from two counts over all of a tensor's weights, by the upper and by the lower half of the keys: a
// radix selection of 32 bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/math/views.h"

namespace headrace::math {

inline constexpr size_t kMagnitudeBins = 65536;

constexpr uint32_t magnitude_key(uint32_t bits) {
  return bits == 0x80000000U ? 0 : (bits & 0x7fffffffU) + 1;  // NaN is larger than everything
}

// Adds to counts[kMagnitudeBins]: weights by the upper half of their keys; those with this upper half, by the
// lower one. Both planes.
void count_upper_keys(WeightView weight, std::span<uint32_t> counts);
void count_lower_keys(WeightView weight, uint32_t upper, std::span<uint32_t> counts);
// Weights with this key.
uint64_t count_key(WeightView weight, uint32_t key);

// The bin in which the k-th smallest lies, k counted from 1, and how many lie in those before it.
struct MagnitudeBin {
  uint32_t bin = 0;
  uint64_t before = 0;
};
MagnitudeBin find_bin(std::span<const uint64_t> counts, uint64_t k);

// Prunes all weights below `key`, and the first `ties` of those equal to it, in order.
void prune_smallest(uint32_t key, uint64_t ties, int64_t n, uint16_t* high, uint16_t* low);

// gradient <- 0 where the weight, as the view has it, is -0.0. [rows, columns], contiguous.
void mask_gradient(WeightView weight, float* gradient);

}  // namespace headrace::math

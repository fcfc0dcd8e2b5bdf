#include "engine/math/magnitude.h"

#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "storage/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/magnitude.cc"
#include <hwy/foreach_target.h>

#include "engine/math/update-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void mask_some(const uint16_t* high, const uint16_t* low, int64_t n, float* gradient) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const Floats weight = load_planes(high + i, low == nullptr ? nullptr : low + i, left);
    store(where_pruned(weight, broadcast(0), load(gradient + i, left)), gradient + i, left);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(mask_some);

constexpr int64_t kTaskValues = 32 * 1024;

uint32_t key_at(const uint16_t* high, const uint16_t* low, int64_t i) {
  const auto lower = static_cast<uint32_t>(int32_t{static_cast<int16_t>(low[i])});
  return magnitude_key((uint32_t{high[i]} << 16) + lower);
}

int64_t elements(const WeightView& weight) { return weight.rows * weight.columns; }

}  // namespace

void count_upper_keys(WeightView weight, std::span<uint32_t> counts) {
  HEADRACE_CHECK(weight.low != nullptr && counts.size() == kMagnitudeBins);
  for (int64_t i = 0; i < elements(weight); i++) counts[key_at(weight.high, weight.low, i) >> 16]++;
}

void count_lower_keys(WeightView weight, uint32_t upper, std::span<uint32_t> counts) {
  HEADRACE_CHECK(weight.low != nullptr && counts.size() == kMagnitudeBins);
  for (int64_t i = 0; i < elements(weight); i++) {
    const uint32_t key = key_at(weight.high, weight.low, i);
    if (key >> 16 == upper) counts[key & 0xffff]++;
  }
}

uint64_t count_key(WeightView weight, uint32_t key) {
  uint64_t count = 0;
  for (int64_t i = 0; i < elements(weight); i++) count += key_at(weight.high, weight.low, i) == key ? 1 : 0;
  return count;
}

MagnitudeBin find_bin(std::span<const uint64_t> counts, uint64_t k) {
  MagnitudeBin found;
  while (found.bin + 1 < counts.size() && found.before + counts[found.bin] < k)
    found.before += counts[found.bin++];
  return found;
}

void prune_smallest(uint32_t key, uint64_t ties, int64_t n, uint16_t* high, uint16_t* low) {
  for (int64_t i = 0; i < n; i++) {
    const uint32_t of_weight = key_at(high, low, i);
    const bool tie = of_weight == key && ties > 0;
    if (of_weight >= key && !tie) continue;
    if (tie) ties--;
    high[i] = 0x8000;
    low[i] = 0;
  }
}

void mask_gradient(WeightView weight, float* gradient) {
  parallel_blocks(elements(weight), kTaskValues, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(mask_some)
    (weight.high + first, weight.low == nullptr ? nullptr : weight.low + first, last - first,
     gradient + first);
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

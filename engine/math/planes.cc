#include "engine/math/kernels.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/planes.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void split_some(const float* weight, int64_t n, uint16_t* high, uint16_t* low) {
  for (int64_t i = 0; i < n; i += kLanes) store_planes(load(weight + i, n - i), high + i, low + i, n - i);
}

HWY_NOINLINE void join_some(const uint16_t* high, const uint16_t* low, int64_t n, float* weight) {
  for (int64_t i = 0; i < n; i += kLanes) {
    store(load_planes(high + i, low == nullptr ? nullptr : low + i, n - i), weight + i, n - i);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(split_some);
HWY_EXPORT(join_some);

constexpr int64_t kTaskValues = 32 * 1024;

}  // namespace

void split_planes(const float* weight, int64_t n, uint16_t* high, uint16_t* low) {
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(split_some)(weight + first, last - first, high + first, low + first);
  });
}

void join_planes(const uint16_t* high, const uint16_t* low, int64_t n, float* weight) {
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(join_some)
    (high + first, low == nullptr ? nullptr : low + first, last - first, weight + first);
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

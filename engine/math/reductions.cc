#include <oneapi/tbb/blocked_range.h>
#include <oneapi/tbb/parallel_reduce.h>

#include <algorithm>
#include <functional>

#include "engine/math/kernels.h"
#include "engine/math/targets.h"
#include "engine/math/task_order.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/reductions.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE double sum_of_squares_chunk(const float* values, int64_t n) {
  Doubles total = broadcast_double(0);
  for (int64_t i = 0; i + kLanes <= n; i += kLanes) {
    const Doubles value = load_double(values + i);
    total = total + value * value;
  }
  if (n % kLanes != 0) {
    const Doubles value = widen(load(values + n / kLanes * kLanes, n % kLanes));
    total = total + value * value;
  }
  return sum(total);
}

// x - x is zero, or NaN for an infinity and a NaN.
HWY_NOINLINE bool all_finite_chunk(const float* values, int64_t n) {
  Floats total = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats value = load(values + i, n - i);
    total = total + (value - value);
  }
  return sum(total) == 0;
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

namespace tbb = oneapi::tbb;

HWY_EXPORT(sum_of_squares_chunk);
HWY_EXPORT(all_finite_chunk);

constexpr int64_t kChunk = 16 * 1024;  // values that one leaf reduces

}  // namespace

double sum_of_squares(const float* values, int64_t n) {
  const TaskOrder order;
  // The deterministic reduction halves the range to single chunks, on any number of threads.
  return tbb::parallel_deterministic_reduce(
      tbb::blocked_range<int64_t>(0, (n + kChunk - 1) / kChunk, 1), 0.0,
      [&](const tbb::blocked_range<int64_t>& chunks, double total) {
        enter_body();
        const TaskOrder::Task task(order);
        for (int64_t c = chunks.begin(); c < chunks.end(); c++) {
          const int64_t first = c * kChunk;
          total += HWY_DYNAMIC_DISPATCH(sum_of_squares_chunk)(values + first, std::min(kChunk, n - first));
        }
        return total;
      },
      std::plus<>());
}

bool all_finite(const float* values, int64_t n) {
  const TaskOrder order;
  return tbb::parallel_reduce(
      tbb::blocked_range<int64_t>(0, (n + kChunk - 1) / kChunk, 1), true,
      [&](const tbb::blocked_range<int64_t>& chunks, bool finite) {
        enter_body();
        const TaskOrder::Task task(order);
        for (int64_t c = chunks.begin(); c < chunks.end() && finite; c++) {
          const int64_t first = c * kChunk;
          finite = HWY_DYNAMIC_DISPATCH(all_finite_chunk)(values + first, std::min(kChunk, n - first));
        }
        return finite;
      },
      std::logical_and<>());
}

}  // namespace headrace::math
#endif  // HWY_ONCE

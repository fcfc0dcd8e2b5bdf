#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "engine/math/updates.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/sgd.cc"
#include <hwy/foreach_target.h>

#include "engine/math/update-inl.h"

#ifndef HEADRACE_SGD_CONSTANTS
#define HEADRACE_SGD_CONSTANTS
namespace headrace::math {
struct SgdConstants {
  GradientConstants terms;
  float minus_lr, momentum;
  bool nesterov;
};
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void sgd_some(const SgdConstants& step, const float* gradient, int64_t n, uint16_t* high,
                           uint16_t* low, float* moment) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const Floats weight = load_planes(high + i, low + i, left);
    const Floats g = whole_gradient(step.terms, load(gradient + i, left), weight);
    Floats direction = g;
    if (moment != nullptr) {
      const Floats b = fused(broadcast(step.momentum), load(moment + i, left), g);
      direction = step.nesterov ? fused(broadcast(step.momentum), b, g) : b;
      store(next_moment(weight, b), moment + i, left);
    }
    const Floats updated = fused(broadcast(step.minus_lr), direction, weight);
    store_planes(next_weight(weight, updated), high + i, low + i, left);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(sgd_some);

constexpr int64_t kTaskValues = 16 * 1024;

}  // namespace

void sgd(const SgdStep& step, const float* gradient, int64_t n, uint16_t* high, uint16_t* low,
         float* moment) {
  const SgdConstants constants{.terms = GradientConstants(step.terms),
                               .minus_lr = static_cast<float>(-step.lr),
                               .momentum = static_cast<float>(step.momentum),
                               .nesterov = step.nesterov};
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(sgd_some)
    (constants, gradient + first, last - first, high + first, low + first,
     moment == nullptr ? nullptr : moment + first);
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

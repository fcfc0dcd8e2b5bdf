#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "engine/math/updates.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/lion.cc"
#include <hwy/foreach_target.h>

#include "engine/math/update-inl.h"

#ifndef HEADRACE_LION_CONSTANTS
#define HEADRACE_LION_CONSTANTS
namespace headrace::math {
struct LionConstants {
  GradientConstants terms;
  float keep, minus_lr, beta1, gain1, beta2, gain2;
};
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void lion_some(const LionConstants& step, const float* gradient, int64_t n, uint16_t* high,
                            uint16_t* low, float* moment) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const Floats weight = load_planes(high + i, low + i, left);
    const Floats g = whole_gradient(step.terms, load(gradient + i, left), weight);
    const Floats before = load(moment + i, left);
    const Floats direction = sign(fused(broadcast(step.beta1), before, broadcast(step.gain1) * g));
    const Floats updated = fused(broadcast(step.minus_lr), direction, weight * broadcast(step.keep));
    store_planes(next_weight(weight, updated), high + i, low + i, left);
    const Floats m = fused(broadcast(step.beta2), before, broadcast(step.gain2) * g);
    store(next_moment(weight, m), moment + i, left);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(lion_some);

constexpr int64_t kTaskValues = 16 * 1024;

}  // namespace

void lion(const LionStep& step, const float* gradient, int64_t n, uint16_t* high, uint16_t* low,
          float* moment) {
  const LionConstants constants{.terms = GradientConstants(step.terms),
                                .keep = static_cast<float>(1 - step.lr * step.weight_decay),
                                .minus_lr = static_cast<float>(-step.lr),
                                .beta1 = static_cast<float>(step.beta1),
                                .gain1 = static_cast<float>(1 - step.beta1),
                                .beta2 = static_cast<float>(step.beta2),
                                .gain2 = static_cast<float>(1 - step.beta2)};
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(lion_some)
    (constants, gradient + first, last - first, high + first, low + first, moment + first);
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

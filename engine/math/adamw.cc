#include <cmath>

#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "engine/math/updates.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/adamw.cc"
#include <hwy/foreach_target.h>

#include "engine/math/update-inl.h"

// The constants of a step, rounded to float where PyTorch rounds them.
#ifndef HEADRACE_ADAMW_CONSTANTS
#define HEADRACE_ADAMW_CONSTANTS
namespace headrace::math {
struct AdamWConstants {
  GradientConstants terms;
  float keep, beta1, gain1, beta2, gain2, root_correction2, epsilon, minus_step;
};
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

HWY_NOINLINE void adamw_some(const AdamWConstants& step, const float* gradient, int64_t n, uint16_t* high,
                             uint16_t* low, float* moment1, float* moment2) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const Floats weight = load_planes(high + i, low + i, left);
    const Floats g = whole_gradient(step.terms, load(gradient + i, left), weight);
    const Floats m = fused(broadcast(step.beta1), load(moment1 + i, left), broadcast(step.gain1) * g);
    const Floats v = fused(broadcast(step.beta2), load(moment2 + i, left), broadcast(step.gain2) * g * g);
    const Floats denominator = square_root(v) / broadcast(step.root_correction2) + broadcast(step.epsilon);
    const Floats updated = fused(broadcast(step.minus_step), m / denominator, weight * broadcast(step.keep));
    store_planes(next_weight(weight, updated), high + i, low + i, left);
    store(next_moment(weight, m), moment1 + i, left);
    store(next_moment(weight, v), moment2 + i, left);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(adamw_some);

constexpr int64_t kTaskValues = 16 * 1024;

}  // namespace

void adamw(const AdamWStep& step, const float* gradient, int64_t n, uint16_t* high, uint16_t* low,
           float* moment1, float* moment2) {
  const AdamWConstants constants{
      .terms = GradientConstants(step.terms),
      .keep = static_cast<float>(1 - step.lr * step.weight_decay),
      .beta1 = static_cast<float>(step.beta1),
      .gain1 = static_cast<float>(1 - step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .gain2 = static_cast<float>(1 - step.beta2),
      .root_correction2 = static_cast<float>(std::sqrt(step.bias_correction2)),
      .epsilon = static_cast<float>(step.epsilon),
      .minus_step = static_cast<float>(-step.lr / step.bias_correction1),
  };
  parallel_blocks(n, kTaskValues, [&](int64_t first, int64_t last) {
    HWY_DYNAMIC_DISPATCH(adamw_some)
    (constants, gradient + first, last - first, high + first, low + first, moment1 + first, moment2 + first);
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

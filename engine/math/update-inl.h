// What the kernels of updates share: the gradient with clipping and penalties, and weights that are pruned.
// Included once a target, after lanes-inl.h.
#if defined(HEADRACE_ENGINE_MATH_UPDATE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADRACE_ENGINE_MATH_UPDATE_INL_H
#undef HEADRACE_ENGINE_MATH_UPDATE_INL_H
#else
#define HEADRACE_ENGINE_MATH_UPDATE_INL_H
#endif

#include "engine/math/lanes-inl.h"
#include "engine/math/updates.h"

#ifndef HEADRACE_UPDATE_CONSTANTS
#define HEADRACE_UPDATE_CONSTANTS
namespace headrace::math {
// GradientTerms, rounded to float.
struct GradientConstants {
  explicit GradientConstants(const GradientTerms& terms)
      : scale(terms.scale),
        l1(static_cast<float>(terms.l1)),
        twice_l2(static_cast<float>(2 * terms.l2)),
        penalised(terms.l1 != 0 || terms.l2 != 0) {}
  float scale, l1, twice_l2;
  bool penalised;
};
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// 1, -1, or 0 for zeros.
HWY_INLINE Floats sign(Floats a) {
  const Floats zero = broadcast(0);
  return where_less(zero, a, broadcast(1), where_less(a, zero, broadcast(-1), zero));
}

HWY_INLINE Floats whole_gradient(const GradientConstants& terms, Floats gradient, Floats weight) {
  const Floats scaled = gradient * broadcast(terms.scale);
  if (!terms.penalised) return scaled;
  return fused(broadcast(terms.l1), sign(weight), fused(broadcast(terms.twice_l2), weight, scaled));
}

// Per lane: the weight is -0.0, which is the mark of a pruned one ? yes : no.
HWY_INLINE Floats where_pruned(Floats weight, Floats yes, Floats no) {
  const IntTag di;
  Floats result;
  for (int p = 0; p < kParts; p++) {
    const auto pruned = hn::Eq(hn::BitCast(di, weight.part[p]), hn::Set(di, INT32_MIN));
    result.part[p] = hn::IfThenElse(hn::RebindMask(FloatTag(), pruned), yes.part[p], no.part[p]);
  }
  return result;
}

// The weight after an update of `weight` to `updated`; -0.0 + 0.0 is 0.0.
HWY_INLINE Floats next_weight(Floats weight, Floats updated) {
  return where_pruned(weight, weight, updated + broadcast(0));
}
HWY_INLINE Floats next_moment(Floats weight, Floats moment) {
  return where_pruned(weight, broadcast(0), moment);
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

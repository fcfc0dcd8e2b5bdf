// tanh and the logistic function of sixteen lanes, with their complements so that slopes lose nothing where
// the functions are flat. Included once a target, after lanes-inl.h.
#if defined(HEADRACE_ENGINE_MATH_ACTIVATIONS_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADRACE_ENGINE_MATH_ACTIVATIONS_INL_H
#undef HEADRACE_ENGINE_MATH_ACTIVATIONS_INL_H
#else
#define HEADRACE_ENGINE_MATH_ACTIVATIONS_INL_H
#endif

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

struct Logistic {
  Floats value, complement;  // 1 / (1 + e^-x), and 1 - that
};

HWY_INLINE Logistic logistic(Floats x) {
  const Floats one = broadcast(1), zero = broadcast(0);
  const Floats e = exp(zero - absolute(x));
  const Floats large = one / (one + e), small = e * large;
  return {where_less(x, zero, small, large), where_less(x, zero, large, small)};
}

// Near zero Cephes' polynomial (tanhf), elsewhere (1 - e^-2|x|) / (1 + e^-2|x|) with x's sign.
HWY_INLINE Floats hyperbolic_tangent(Floats x) {
  const Floats one = broadcast(1), zero = broadcast(0), size = absolute(x), square = x * x;
  Floats series = broadcast(-5.70498872745e-3F);
  series = fused(series, square, broadcast(2.06390887954e-2F));
  series = fused(series, square, broadcast(-5.37397155531e-2F));
  series = fused(series, square, broadcast(1.33314422036e-1F));
  series = fused(series, square, broadcast(-3.33332819422e-1F));
  const Floats near_zero = fused(series * square, x, x);
  const Floats e = exp(broadcast(-2) * size);
  const Floats far = (one - e) / (one + e);
  return where_less(size, broadcast(0.625F), near_zero, where_less(x, zero, zero - far, far));
}

// 1 - tanh(x)^2 = 4 e^-2|x| / (1 + e^-2|x|)^2.
HWY_INLINE Floats hyperbolic_tangent_slope(Floats x) {
  const Floats e = exp(broadcast(-2) * absolute(x)), sum = broadcast(1) + e;
  return broadcast(4) * e / (sum * sum);
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

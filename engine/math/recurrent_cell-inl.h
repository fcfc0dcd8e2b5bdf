// What the kernels of recurrent cells share. Included once a target.
#if defined(HEADRACE_ENGINE_MATH_RECURRENT_CELL_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADRACE_ENGINE_MATH_RECURRENT_CELL_INL_H
#undef HEADRACE_ENGINE_MATH_RECURRENT_CELL_INL_H
#else
#define HEADRACE_ENGINE_MATH_RECURRENT_CELL_INL_H
#endif

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// Slopes by the functions' values.
HWY_INLINE Floats sigmoid_slope(Floats s) { return s * (broadcast(1) - s); }
HWY_INLINE Floats tanh_slope(Floats t) { return broadcast(1) - t * t; }

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

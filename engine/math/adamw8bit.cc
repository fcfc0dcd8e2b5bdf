#include <algorithm>
#include <cmath>

#include "engine/math/parallel.h"
#include "engine/math/targets.h"
#include "engine/math/updates.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/adamw8bit.cc"
#include <hwy/foreach_target.h>

#include "engine/math/update-inl.h"

// The constants of a step, rounded to float where PyTorch rounds them, and the dither of a group's elements.
#ifndef HEADRACE_ADAMW8BIT_CONSTANTS
#define HEADRACE_ADAMW8BIT_CONSTANTS
namespace headrace::math {
struct AdamW8bitConstants {
  GradientConstants terms;
  float keep, beta1, gain1, beta2, gain2, root_correction2, epsilon, minus_step;
  float dither1[kMomentGroup], dither2[kMomentGroup];
};
}  // namespace headrace::math
#endif

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

// The first n codes as floats; the other lanes are zero.
template <class Code>
HWY_INLINE Floats load_codes(const Code* codes, int64_t n) {
  const hn::Rebind<Code, FloatTag> narrow;
  Code lanes[kLanes] = {};
  if (n < kLanes) {
    std::memcpy(lanes, codes, static_cast<size_t>(n));
    codes = lanes;
  }
  Floats result;
  for (int p = 0; p < kParts; p++) {
    const auto wide = hn::PromoteTo(IntTag(), hn::LoadU(narrow, codes + p * kPartLanes));
    result.part[p] = hn::ConvertTo(FloatTag(), wide);
  }
  return result;
}

// Cuts the fractions off n values from 0 to below 256. What is none (0 / 0 where all of a group are zero)
// becomes 0.
HWY_INLINE void store_codes(Floats value, uint8_t* codes, int64_t n, Floats negative_where) {
  const hn::Rebind<uint8_t, FloatTag> narrow;
  const hn::Rebind<uint32_t, FloatTag> wide;
  const Floats number = where_less(value, broadcast(256), value, broadcast(0));
  const Floats zero = broadcast(0);
  uint8_t lanes[kLanes];
  uint8_t* to = n >= kLanes ? codes : lanes;
  for (int p = 0; p < kParts; p++) {
    const auto code = hn::ConvertTo(IntTag(), number.part[p]);
    const auto negative = hn::RebindMask(IntTag(), hn::Lt(negative_where.part[p], zero.part[p]));
    const auto with_sign = hn::IfThenElse(negative, hn::Neg(code), code);
    hn::StoreU(hn::TruncateTo(narrow, hn::BitCast(wide, with_sign)), narrow, to + p * kPartLanes);
  }
  if (n < kLanes) std::memcpy(codes, lanes, static_cast<size_t>(n));
}

// The n elements of one group, at most kMomentGroup.
HWY_NOINLINE void adamw8bit_group(const AdamW8bitConstants& step, const float* gradient, int64_t n,
                                  uint16_t* high, uint16_t* low, int8_t* code1, uint8_t* code2, float& scale1,
                                  float& scale2) {
  HWY_ALIGN_MAX float m_of[kMomentGroup], v_of[kMomentGroup];
  Floats largest1 = broadcast(0), largest2 = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const int64_t left = n - i;
    const Floats weight = load_planes(high + i, low + i, left);
    const Floats g = whole_gradient(step.terms, load(gradient + i, left), weight);
    const Floats root1 = load_codes(code1 + i, left) * broadcast(1.0F / 127);
    const Floats root2 = load_codes(code2 + i, left) * broadcast(1.0F / 255);
    const Floats square2 = root2 * root2;
    const Floats m_before = root1 * absolute(root1) * broadcast(scale1);
    const Floats v_before = square2 * square2 * broadcast(scale2);
    const Floats m = fused(broadcast(step.beta1), m_before, broadcast(step.gain1) * g);
    const Floats v = fused(broadcast(step.beta2), v_before, broadcast(step.gain2) * g * g);
    const Floats denominator = square_root(v) / broadcast(step.root_correction2) + broadcast(step.epsilon);
    const Floats updated = fused(broadcast(step.minus_step), m / denominator, weight * broadcast(step.keep));
    store_planes(next_weight(weight, updated), high + i, low + i, left);
    const Floats next1 = next_moment(weight, m), next2 = next_moment(weight, v);
    store(next1, m_of + i);
    store(next2, v_of + i);
    largest1 = where_less(largest1, absolute(next1), absolute(next1), largest1);
    largest2 = where_less(largest2, next2, next2, largest2);
  }
  scale1 = largest(largest1);
  scale2 = largest(largest2);
  const Floats zero = broadcast(0);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Floats m = load(m_of + i), v = load(v_of + i);
    const Floats root1 = square_root(absolute(m) / broadcast(scale1));
    const Floats root2 = square_root(square_root(v / broadcast(scale2)));
    const Floats level1 = fused(root1, broadcast(127), load(step.dither1 + i));
    const Floats level2 = fused(root2, broadcast(255), load(step.dither2 + i));
    const Floats least2 = where_less(zero, v, max(level2, broadcast(1)), zero);
    store_codes(level1, reinterpret_cast<uint8_t*>(code1 + i), n - i, m);
    store_codes(least2, code2 + i, n - i, zero);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(adamw8bit_group);

constexpr int64_t kTaskGroups = 64;

// 2^32 times the fractions of the golden ratio and of the root of 2.
constexpr uint32_t kStepStride = 0x9e3779b9, kElementStride = 0x6a09e667;

// Of 16 bits: so the largest code plus the largest dither is below the next code also as a float.
float fraction(uint32_t of_2_32) { return static_cast<float>(of_2_32 >> 16) * 0x1p-16F; }

}  // namespace

void adamw8bit(const AdamWStep& step, uint64_t number, const float* gradient, int64_t n, uint16_t* high,
               uint16_t* low, const Moments8bit& moments) {
  AdamW8bitConstants constants{
      .terms = GradientConstants(step.terms),
      .keep = static_cast<float>(1 - step.lr * step.weight_decay),
      .beta1 = static_cast<float>(step.beta1),
      .gain1 = static_cast<float>(1 - step.beta1),
      .beta2 = static_cast<float>(step.beta2),
      .gain2 = static_cast<float>(1 - step.beta2),
      .root_correction2 = static_cast<float>(std::sqrt(step.bias_correction2)),
      .epsilon = static_cast<float>(step.epsilon),
      .minus_step = static_cast<float>(-step.lr / step.bias_correction1),
      .dither1 = {},
      .dither2 = {},
  };
  for (uint32_t i = 0; i < kMomentGroup; i++) {
    const uint32_t at = static_cast<uint32_t>(number) * kStepStride + i * kElementStride;
    constants.dither1[i] = fraction(at + 0x80000000);
    constants.dither2[i] = fraction(at);
  }
  const int64_t groups = (n + kMomentGroup - 1) / kMomentGroup;
  parallel_blocks(groups, kTaskGroups, [&](int64_t first, int64_t last) {
    for (int64_t group = first; group < last; group++) {
      const int64_t at = group * kMomentGroup;
      HWY_DYNAMIC_DISPATCH(adamw8bit_group)
      (constants, gradient + at, std::min<int64_t>(kMomentGroup, n - at), high + at, low + at,
       moments.code1 + at, moments.code2 + at, moments.scale1[group], moments.scale2[group]);
    }
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

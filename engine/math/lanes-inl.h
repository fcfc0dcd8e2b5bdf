// Sixteen floats as one value on every vector target: one AVX-512 register, two AVX ones, or sixteen scalars.
// Kernels written with it give the same bits on each, for every operation is per lane and rounded once, and
// reductions fold the lanes in a fixed order. Included once a target, in the manner of Highway's own -inl.h.
#if defined(HEADRACE_ENGINE_MATH_LANES_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef HEADRACE_ENGINE_MATH_LANES_INL_H
#undef HEADRACE_ENGINE_MATH_LANES_INL_H
#else
#define HEADRACE_ENGINE_MATH_LANES_INL_H
#endif

#include <hwy/highway.h>

#include <cmath>
#include <cstdint>
#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kLanes = 16;

using FloatTag = hn::CappedTag<float, kLanes>;
using IntTag = hn::Rebind<int32_t, FloatTag>;
using DoubleTag = hn::CappedTag<double, kLanes>;
using Vector = hn::Vec<FloatTag>;

constexpr int kPartLanes = static_cast<int>(hn::MaxLanes(FloatTag()));
constexpr int kParts = kLanes / kPartLanes;
constexpr int kDoubleLanes = static_cast<int>(hn::MaxLanes(DoubleTag()));
constexpr int kDoubleParts = kLanes / kDoubleLanes;

struct Floats {
  Vector part[kParts];
};

// --- One register ---

HWY_INLINE Vector fused(Vector a, Vector b, Vector c) {  // a b + c, rounded once
#if HWY_TARGET == HWY_SCALAR
  return hn::Set(FloatTag(), std::fma(hn::GetLane(a), hn::GetLane(b), hn::GetLane(c)));
#else
  return hn::MulAdd(a, b, c);
#endif
}

// e^x for x at most 88, to 1 unit in the last place; 0 where e^x is subnormal. 2^n is split off (n is read
// from the low bits of x log2 e + 1.5 2^23), the rest, at most ln(2) / 2, meets a minimax polynomial.
HWY_INLINE Vector exp_part(Vector x) {
  const FloatTag d;
  const IntTag di;
  const Vector shift = hn::Set(d, 12582912.0F);
  const Vector shifted = fused(x, hn::Set(d, 1.44269504F), shift);
  const Vector n = hn::Sub(shifted, shift);
  Vector r = fused(n, hn::Set(d, -0.693145752F), x);
  r = fused(n, hn::Set(d, -1.42860677e-6F), r);
  Vector p = hn::Set(d, 0.00138144669F);
  p = fused(p, r, hn::Set(d, 0.00836878057F));
  p = fused(p, r, hn::Set(d, 0.0416683942F));
  p = fused(p, r, hn::Set(d, 0.166665201F));
  p = fused(p, r, hn::Set(d, 0.499999934F));
  p = fused(p, r, hn::Set(d, 1.0F));
  p = fused(p, r, hn::Set(d, 1.0F));
  const auto biased = hn::Add(hn::BitCast(di, shifted), hn::Set(di, 127));
  const Vector power = hn::BitCast(d, hn::ShiftLeft<23>(biased));
  return hn::IfThenElse(hn::Lt(x, hn::Set(d, -87.3365F)), hn::Zero(d), hn::Mul(p, power));
}

// Natural logarithm of normal positive numbers (FreeBSD's e_logf.c).
HWY_INLINE Vector log_part(Vector x) {
  const FloatTag d;
  const IntTag di;
  const auto bits = hn::BitCast(di, x);
  const auto exponent = hn::ShiftRight<23>(hn::Sub(bits, hn::Set(di, 0x3f3504f3)));  // of x / sqrt(1/2)
  const Vector n = hn::ConvertTo(d, exponent);
  const Vector f = hn::Sub(hn::BitCast(d, hn::Sub(bits, hn::ShiftLeft<23>(exponent))), hn::Set(d, 1.0F));
  const Vector s = hn::Div(f, hn::Add(hn::Set(d, 2.0F), f));
  const Vector z = hn::Mul(s, s), w = hn::Mul(z, z);
  const Vector even = hn::Mul(w, fused(w, hn::Set(d, 0.24279078841F), hn::Set(d, 0.40000972152F)));
  const Vector odd = hn::Mul(z, fused(w, hn::Set(d, 0.28498786688F), hn::Set(d, 0.66666662693F)));
  const Vector half_square = hn::Mul(hn::Set(d, 0.5F), hn::Mul(f, f));
  const Vector tail =
      fused(s, hn::Add(half_square, hn::Add(odd, even)), hn::Mul(n, hn::Set(d, 9.0580006145e-6F)));
  return fused(n, hn::Set(d, 0.69313812256F), hn::Add(hn::Sub(tail, half_square), f));
}

// --- Sixteen lanes ---

#define HEADRACE_LANES(expression)                              \
  Floats result;                                                \
  for (int p = 0; p < kParts; p++) result.part[p] = expression; \
  return result

HWY_INLINE Floats broadcast(float value) { HEADRACE_LANES(hn::Set(FloatTag(), value)); }
HWY_INLINE Floats load(const float* from) { HEADRACE_LANES(hn::LoadU(FloatTag(), from + p * kPartLanes)); }
HWY_INLINE Floats operator+(Floats a, Floats b) { HEADRACE_LANES(hn::Add(a.part[p], b.part[p])); }
HWY_INLINE Floats operator-(Floats a, Floats b) { HEADRACE_LANES(hn::Sub(a.part[p], b.part[p])); }
HWY_INLINE Floats operator*(Floats a, Floats b) { HEADRACE_LANES(hn::Mul(a.part[p], b.part[p])); }
HWY_INLINE Floats operator/(Floats a, Floats b) { HEADRACE_LANES(hn::Div(a.part[p], b.part[p])); }
HWY_INLINE Floats max(Floats a, Floats b) { HEADRACE_LANES(hn::Max(a.part[p], b.part[p])); }
HWY_INLINE Floats fused(Floats a, Floats b, Floats c) {
  HEADRACE_LANES(fused(a.part[p], b.part[p], c.part[p]));
}
HWY_INLINE Floats square_root(Floats a) { HEADRACE_LANES(hn::Sqrt(a.part[p])); }
HWY_INLINE Floats absolute(Floats a) { HEADRACE_LANES(hn::Abs(a.part[p])); }
HWY_INLINE Floats exp(Floats a) { HEADRACE_LANES(exp_part(a.part[p])); }
HWY_INLINE Floats log(Floats a) { HEADRACE_LANES(log_part(a.part[p])); }
// Per lane: a < b ? yes : no.
HWY_INLINE Floats where_less(Floats a, Floats b, Floats yes, Floats no) {
  HEADRACE_LANES(hn::IfThenElse(hn::Lt(a.part[p], b.part[p]), yes.part[p], no.part[p]));
}

// 1 / (1 + e^-x), without overflow on either side.
HWY_INLINE Floats sigmoid(Floats x) {
  const Floats one = broadcast(1), zero = broadcast(0);
  const Floats e = exp(zero - absolute(x)), large = one / (one + e);
  return where_less(x, zero, e * large, large);
}

// Where x is small the quotient would cancel: a polynomial there (Cephes' tanhf).
HWY_INLINE Floats tanh(Floats x) {
  const Floats one = broadcast(1), zero = broadcast(0), size = absolute(x), z = x * x;
  Floats p = broadcast(-5.70498872745e-3F);
  p = fused(p, z, broadcast(2.06390887954e-2F));
  p = fused(p, z, broadcast(-5.37397155531e-2F));
  p = fused(p, z, broadcast(1.33314422036e-1F));
  p = fused(p, z, broadcast(-3.33332819422e-1F));
  const Floats small = fused(p * z, x, x);
  const Floats e = exp(broadcast(-2) * size), large = (one - e) / (one + e);
  return where_less(size, broadcast(0.625F), small, where_less(x, zero, zero - large, large));
}

// The floats of bits (high << 16) + int16(low), or high << 16 where low is null.
HWY_INLINE Floats load_planes(const uint16_t* high, const uint16_t* low) {
  const hn::Rebind<uint16_t, FloatTag> du16;
  const hn::Rebind<int16_t, FloatTag> di16;
  const hn::Rebind<uint32_t, FloatTag> du32;
  const IntTag di32;
  Floats result;
  for (int p = 0; p < kParts; p++) {
    const auto upper = hn::LoadU(du16, high + p * kPartLanes);
    auto bits = hn::BitCast(di32, hn::ShiftLeft<16>(hn::PromoteTo(du32, upper)));
    if (low != nullptr) {
      const auto lower = hn::BitCast(di16, hn::LoadU(du16, low + p * kPartLanes));
      bits = hn::Add(bits, hn::PromoteTo(di32, lower));
    }
    result.part[p] = hn::BitCast(FloatTag(), bits);
  }
  return result;
}

#undef HEADRACE_LANES

HWY_INLINE void store(Floats value, float* to) {
  for (int p = 0; p < kParts; p++) hn::StoreU(value.part[p], FloatTag(), to + p * kPartLanes);
}

// The first n floats, all sixteen if n >= 16; the other lanes hold `fill`.
HWY_INLINE Floats load(const float* from, int64_t n, float fill = 0) {
  if (n >= kLanes) return load(from);
  HWY_ALIGN_MAX float lanes[kLanes];
  for (float& lane : lanes) lane = fill;
  std::memcpy(lanes, from, sizeof(float) * static_cast<size_t>(n));
  return load(lanes);
}

HWY_INLINE void store(Floats value, float* to, int64_t n) {
  if (n >= kLanes) return store(value, to);
  HWY_ALIGN_MAX float lanes[kLanes];
  store(value, lanes);
  std::memcpy(to, lanes, sizeof(float) * static_cast<size_t>(n));
}

HWY_INLINE Floats load_planes(const uint16_t* high, const uint16_t* low, int64_t n) {
  if (n >= kLanes) return load_planes(high, low);
  uint16_t high_lanes[kLanes] = {}, low_lanes[kLanes] = {};
  std::memcpy(high_lanes, high, sizeof(uint16_t) * static_cast<size_t>(n));
  if (low == nullptr) return load_planes(high_lanes, nullptr);
  std::memcpy(low_lanes, low, sizeof(uint16_t) * static_cast<size_t>(n));
  return load_planes(high_lanes, low_lanes);
}

// high = (bits + 0x8000) >> 16, low = bits & 0xffff, of the first n lanes.
HWY_INLINE void store_planes(Floats value, uint16_t* high, uint16_t* low, int64_t n) {
  const hn::Rebind<uint16_t, FloatTag> du16;
  const hn::Rebind<uint32_t, FloatTag> du32;
  uint16_t high_lanes[kLanes], low_lanes[kLanes];
  uint16_t* high_to = n >= kLanes ? high : high_lanes;
  uint16_t* low_to = n >= kLanes ? low : low_lanes;
  for (int p = 0; p < kParts; p++) {
    const auto bits = hn::BitCast(du32, value.part[p]);
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Set(du32, 0x8000)));
    hn::StoreU(hn::TruncateTo(du16, rounded), du16, high_to + p * kPartLanes);
    hn::StoreU(hn::TruncateTo(du16, bits), du16, low_to + p * kPartLanes);
  }
  if (n >= kLanes) return;
  std::memcpy(high, high_lanes, sizeof(uint16_t) * static_cast<size_t>(n));
  std::memcpy(low, low_lanes, sizeof(uint16_t) * static_cast<size_t>(n));
}

// Folds the lanes: 16 to 8 to 4 to 2 to 1, the upper half onto the lower.
HWY_INLINE float sum(Floats value) {
  HWY_ALIGN_MAX float lanes[kLanes];
  store(value, lanes);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

HWY_INLINE float largest(Floats value) {
  HWY_ALIGN_MAX float lanes[kLanes];
  store(value, lanes);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) lanes[i] = lanes[i] < lanes[i + half] ? lanes[i + half] : lanes[i];
  }
  return lanes[0];
}

// --- Sixteen doubles ---

struct Doubles {
  hn::Vec<DoubleTag> part[kDoubleParts];
};

#define HEADRACE_LANES(expression)                                    \
  Doubles result;                                                     \
  for (int p = 0; p < kDoubleParts; p++) result.part[p] = expression; \
  return result

HWY_INLINE Doubles broadcast_double(double value) { HEADRACE_LANES(hn::Set(DoubleTag(), value)); }
HWY_INLINE Doubles operator+(Doubles a, Doubles b) { HEADRACE_LANES(hn::Add(a.part[p], b.part[p])); }
HWY_INLINE Doubles operator-(Doubles a, Doubles b) { HEADRACE_LANES(hn::Sub(a.part[p], b.part[p])); }
HWY_INLINE Doubles operator*(Doubles a, Doubles b) { HEADRACE_LANES(hn::Mul(a.part[p], b.part[p])); }
HWY_INLINE Doubles load_double(const float* from) {
  const hn::Rebind<float, DoubleTag> narrow;
  HEADRACE_LANES(hn::PromoteTo(DoubleTag(), hn::LoadU(narrow, from + p * kDoubleLanes)));
}

#undef HEADRACE_LANES

HWY_INLINE Doubles widen(Floats value) {
  HWY_ALIGN_MAX float lanes[kLanes];
  store(value, lanes);
  return load_double(lanes);
}

HWY_INLINE double sum(Doubles value) {
  HWY_ALIGN_MAX double lanes[kLanes];
  for (int p = 0; p < kDoubleParts; p++) hn::StoreU(value.part[p], DoubleTag(), lanes + p * kDoubleLanes);
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
  }
  return lanes[0];
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per target

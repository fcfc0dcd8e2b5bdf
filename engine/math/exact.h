// Elementary functions in double whose bits are the same on every machine: plain additions, multiplications
// and divisions. The C library's differ between processors with and without fused multiply-add.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace headrace::math {

// Natural logarithm of a normal positive number, to about 1e-16 relative to the larger of 1 and the result;
// infinity for infinity, NaN for what is no such number.
inline double exact_log(double x) {
  constexpr auto kLimits = std::numeric_limits<double>();
  if (!(x >= kLimits.min())) return kLimits.quiet_NaN();
  if (x > kLimits.max()) return x;
  // x = 2^exponent y with y in [sqrt(1/2), sqrt(2)); log y = 2 artanh(z) with z = (y - 1) / (y + 1).
  const auto bits = std::bit_cast<int64_t>(x);
  const int64_t exponent = (bits - 0x3fe6a09e667f3bcd) >> 52;
  const double y = std::bit_cast<double>(bits - exponent * (int64_t{1} << 52));
  const double z = (y - 1) / (y + 1), square = z * z;
  double series = 0;
  for (int term = 23; term >= 3; term -= 2) series = (series + 1.0 / term) * square;
  return static_cast<double>(exponent) * 0.69314718055994530942 + 2 * (z + z * series);
}

struct SineCosine {
  double sine, cosine;
};

// Of `turns` / 2^32 of a full turn.
inline SineCosine exact_sine_cosine(uint32_t turns) {
  // The nearest quarter turn and the angle from it, at most an eighth.
  const uint32_t quarter = (turns + (uint32_t{1} << 29)) >> 30;
  const auto rest = static_cast<int32_t>(turns - (quarter << 30));
  const double x = static_cast<double>(rest) * (6.28318530717958647693 / 4294967296.0), square = x * x;
  double sine = 0, cosine = 0;
  for (int term = 16; term >= 2; term -= 2) {
    sine = (1 - sine) * (square / (term * (term + 1)));
    cosine = (1 - cosine) * (square / (term * (term - 1)));
  }
  sine = x - x * sine;
  cosine = 1 - cosine;
  switch (quarter & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

}  // namespace headrace::math

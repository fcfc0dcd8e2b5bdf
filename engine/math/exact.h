// Elementary functions in double whose bits are the same on every machine: plain additions, multiplications
// and divisions. The C library's differ between processors with and without fused multiply-add. What normal
// variates in float32 are made from is a thousand times as exact as they are.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>

namespace headrace::math {

inline constexpr double kLogSeries[] = {1.0 / 23, 1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13,
                                        1.0 / 11, 1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3};
inline constexpr double kShortLogSeries[] = {1.0 / 11, 1.0 / 9, 1.0 / 7, 1.0 / 5, 1.0 / 3};
inline constexpr double kLogOf2 = 0.69314718055994530942;
inline constexpr double kTurnFraction = 6.28318530717958647693 / 4294967296.0;  // radians of 2^-32 of a turn
inline constexpr double kSineSeries[] = {1.0 / 110, 1.0 / 72, 1.0 / 42, 1.0 / 20, 1.0 / 6};
inline constexpr double kCosineSeries[] = {1.0 / 90, 1.0 / 56, 1.0 / 30, 1.0 / 12, 1.0 / 2};

// Natural logarithm of a normal positive number, to what `terms` give: of kLogSeries about 1e-16 relative to
// the larger of 1 and the result, of kShortLogSeries about 6e-11 of the result.
template <size_t kTerms>
double log_by_series(double x, const double (&terms)[kTerms]) {
  // x = 2^exponent y with y in [sqrt(1/2), sqrt(2)); log y = 2 artanh(z) with z = (y - 1) / (y + 1).
  const auto bits = std::bit_cast<int64_t>(x);
  const int64_t exponent = (bits - 0x3fe6a09e667f3bcd) >> 52;
  const double y = std::bit_cast<double>(bits - exponent * (int64_t{1} << 52));
  const double z = (y - 1) / (y + 1), square = z * z;
  double series = 0;
  for (const double term : terms) series = (series + term) * square;
  return static_cast<double>(exponent) * kLogOf2 + 2 * (z + z * series);
}

// Natural logarithm to about 1e-16; infinity for infinity, NaN for what is no normal positive number.
inline double exact_log(double x) {
  constexpr auto kLimits = std::numeric_limits<double>();
  if (!(x >= kLimits.min())) return kLimits.quiet_NaN();
  return x > kLimits.max() ? x : log_by_series(x, kLogSeries);
}

struct SineCosine {
  double sine, cosine;
};

// Of `turns` / 2^32 of a full turn, to about 2e-10.
inline SineCosine sine_cosine_of_turns(uint32_t turns) {
  // The nearest quarter turn and the angle from it, at most an eighth.
  const uint32_t quarter = (turns + (uint32_t{1} << 29)) >> 30;
  const auto rest = static_cast<int32_t>(turns - (quarter << 30));
  const double x = static_cast<double>(rest) * kTurnFraction, square = x * x;
  double sine = 0, cosine = 0;
  for (size_t i = 0; i < std::size(kSineSeries); i++) {
    sine = (1 - sine) * (square * kSineSeries[i]);
    cosine = (1 - cosine) * (square * kCosineSeries[i]);
  }
  sine = x - x * sine;
  cosine = 1 - cosine;
  const bool odd = (quarter & 1) != 0;
  const double sine_sign = 1 - static_cast<double>(static_cast<int32_t>(quarter & 2));
  const double cosine_sign = 1 - static_cast<double>(static_cast<int32_t>((quarter + 1) & 2));
  return {(odd ? cosine : sine) * sine_sign, (odd ? sine : cosine) * cosine_sign};
}

}  // namespace headrace::math

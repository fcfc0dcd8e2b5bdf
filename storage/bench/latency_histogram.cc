#include "storage/bench/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace headrace::bench {
namespace {

constexpr uint32_t kExact = 1u << LatencyHistogram::kExactBits;  // buckets of one nanosecond
constexpr uint32_t kHalf = kExact / 2;                           // buckets of each power of two above
constexpr uint32_t kBuckets = kExact + (64 - LatencyHistogram::kExactBits) * kHalf;

}  // namespace

LatencyHistogram::LatencyHistogram() : buckets_(kBuckets, 0) {}

// Above the exact values, the leading kExactBits bits of a value name its bucket.
uint32_t LatencyHistogram::bucket_of(uint64_t nanoseconds) {
  if (nanoseconds < kExact) return static_cast<uint32_t>(nanoseconds);
  const auto shift = static_cast<uint32_t>(std::bit_width(nanoseconds)) - kExactBits;
  const auto leading = static_cast<uint32_t>(nanoseconds >> shift);  // [kHalf, kExact)
  return kExact + (shift - 1) * kHalf + (leading - kHalf);
}

uint64_t LatencyHistogram::bucket_low(uint32_t bucket) {
  if (bucket < kExact) return bucket;
  const uint32_t shift = (bucket - kExact) / kHalf + 1;
  return uint64_t{kHalf + (bucket - kExact) % kHalf} << shift;
}

uint64_t LatencyHistogram::bucket_high(uint32_t bucket) {
  if (bucket < kExact) return bucket;
  const uint32_t shift = (bucket - kExact) / kHalf + 1;
  return bucket_low(bucket) + ((uint64_t{1} << shift) - 1);
}

void LatencyHistogram::add(uint64_t nanoseconds) {
  ++buckets_[bucket_of(nanoseconds)];
  ++count_;
  min_ns_ = std::min(min_ns_, nanoseconds);
  max_ns_ = std::max(max_ns_, nanoseconds);
  sum_ns_ += static_cast<double>(nanoseconds);
}

void LatencyHistogram::merge(const LatencyHistogram& other) {
  for (uint32_t i = 0; i < kBuckets; ++i) buckets_[i] += other.buckets_[i];
  count_ += other.count_;
  min_ns_ = std::min(min_ns_, other.min_ns_);
  max_ns_ = std::max(max_ns_, other.max_ns_);
  sum_ns_ += other.sum_ns_;
}

double LatencyHistogram::mean_ns() const { return count_ == 0 ? 0 : sum_ns_ / static_cast<double>(count_); }

double LatencyHistogram::stddev_ns() const {
  if (count_ == 0) return 0;
  const double mean = mean_ns();
  double squares = 0;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    if (buckets_[i] == 0) continue;
    const double middle = (static_cast<double>(bucket_low(i)) + static_cast<double>(bucket_high(i))) / 2;
    squares += static_cast<double>(buckets_[i]) * (middle - mean) * (middle - mean);
  }
  return std::sqrt(squares / static_cast<double>(count_));
}

uint64_t LatencyHistogram::percentile_ns(double percent) const {
  if (count_ == 0) return 0;
  const double share = std::clamp(percent, 0.0, 100.0) / 100;
  const auto rank =
      std::max(uint64_t{1}, static_cast<uint64_t>(std::ceil(share * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (uint32_t i = 0; i < kBuckets; ++i) {
    seen += buckets_[i];
    if (seen >= rank) return std::min(bucket_high(i), max_ns_);
  }
  return max_ns_;
}

}  // namespace headrace::bench

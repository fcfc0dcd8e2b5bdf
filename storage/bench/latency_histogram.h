// Latencies counted in the manner of an HDR histogram: buckets whose width is a fixed share of their value,
// so that a percentile is known to a bounded relative error, in a memory that does not grow.
//
// A value without locks: one thread at a time. Never allocates after the constructor. Reference: G. Tene,
// "HdrHistogram".
#pragma once

#include <cstdint>
#include <vector>

namespace headrace::bench {

class LatencyHistogram {
 public:
  // Values below 2^kExactBits nanoseconds are exact; above, a bucket spans 2^-(kExactBits - 1) of its value.
  static constexpr uint32_t kExactBits = 9;
  static constexpr double kRelativeError = 1.0 / (1 << (kExactBits - 1));  // 0.4%

  LatencyHistogram();

  void add(uint64_t nanoseconds);
  void merge(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  uint64_t min_ns() const { return count_ == 0 ? 0 : min_ns_; }
  uint64_t max_ns() const { return max_ns_; }
  double mean_ns() const;
  double stddev_ns() const;  // of the population, from the buckets' middles
  // The smallest bucket's upper end that at least `percent` of the values do not exceed, never above
  // max_ns(): at most kRelativeError above the exact value of that rank. 0 where nothing was added.
  uint64_t percentile_ns(double percent) const;

 private:
  static uint32_t bucket_of(uint64_t nanoseconds);
  static uint64_t bucket_low(uint32_t bucket);
  static uint64_t bucket_high(uint32_t bucket);  // inclusive

  std::vector<uint64_t> buckets_;
  uint64_t count_ = 0, min_ns_ = ~uint64_t{0}, max_ns_ = 0;
  double sum_ns_ = 0;
};

}  // namespace headrace::bench

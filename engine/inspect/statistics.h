// Statistics of values that come in pieces: one pass, little memory, and a result that does not depend on how
// the values were cut beyond the last digits of mean and deviation.
//
// Not for more than one thread at a time; does not fail.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "storage/tensor_source.h"
#include "storage/tensor_values.h"

namespace headrace::inspect {

// Counts of values in bins of equal width, a power of two: bin i holds [first + i width, first + (i + 1)
// width).
struct Histogram {
  double first = 0, width = 0;
  std::vector<uint64_t> counts;
};

struct Statistics {
  uint64_t elements = 0, zeros = 0, nans = 0, infinities = 0;
  uint64_t negative_zeros = 0;  // of the zeros: in a run or checkpoint, weights that are pruned
  // Of the finite values; NaN if there are none.
  double min = std::numeric_limits<double>::quiet_NaN(), max = min, mean = min;
  double standard_deviation = min;  // sqrt(mean of (value - mean)^2): divided by the count, not one less
  Histogram histogram;              // at most kMostBins
};

inline constexpr size_t kMostBins = 16;

// Gathers a histogram whose range is not known before: bins of a power of two that are joined in pairs when
// the range grows, so that every count is exact.
class HistogramBuilder {
 public:
  void add(std::span<const double> values);  // finite
  Histogram finish(size_t most_bins) const;

 private:
  int64_t bin_of(double value) const;
  bool has_room_for(double low, double high) const;
  void widen(double low, double high);

  int exponent_ = 0;   // the width is 2^exponent_
  int64_t first_ = 0;  // index of counts_[0]: the bin that begins at first_ * width
  std::vector<uint64_t> counts_;
};

class StatisticsBuilder {
 public:
  void add(std::span<const double> values);
  Statistics finish() const;

 private:
  void add_finite(std::span<const double> values);

  Statistics sum_;
  uint64_t finite_ = 0;
  double mean_ = 0, squares_ = 0;  // of deviations from the mean
  HistogramBuilder histogram_;
};

// Of a field of a tensor, read in pieces.
Statistics statistics_of(storage::TensorSource& source, size_t tensor, const storage::ValueField& field);

}  // namespace headrace::inspect

#include "engine/inspect/statistics.h"

#include <algorithm>
#include <cmath>

namespace headrace::inspect {
namespace {

constexpr size_t kRun = 4096;            // values that are summed at once
constexpr int64_t kMostFineBins = 4096;  // of a builder
constexpr double kMostBin = 0x1p52;
constexpr int kLeastExponent = -1074;  // of a double
constexpr uint64_t kPieceElements = uint64_t{1} << 20;

// The bin of a value, given how many widths it is from zero; a small negative one may have vanished in that.
int64_t bin_at(double value, double widths) {
  const auto bin = static_cast<int64_t>(std::floor(widths));
  return value < 0 && bin >= 0 ? -1 : bin;
}

}  // namespace

int64_t HistogramBuilder::bin_of(double value) const { return bin_at(value, std::ldexp(value, -exponent_)); }

// Whether the bins, with those of low and high, are few enough, and their numbers whole in a double.
bool HistogramBuilder::has_room_for(double low, double high) const {
  if (std::abs(std::ldexp(low, -exponent_)) > kMostBin || std::abs(std::ldexp(high, -exponent_)) > kMostBin)
    return false;
  const int64_t last = std::max(bin_of(high), first_ + static_cast<int64_t>(counts_.size()) - 1);
  return last - std::min(bin_of(low), first_) < kMostFineBins;
}

// Makes the range hold low and high.
void HistogramBuilder::widen(double low, double high) {
  if (counts_.empty()) {
    // As fine as these values allow. Zeros are in bin 0 whatever its width.
    const double reach = std::max({high - low, std::abs(low) / kMostBin, std::abs(high) / kMostBin});
    exponent_ = kLeastExponent;
    if (reach > 0)
      exponent_ = std::isfinite(reach) ? std::max(std::ilogb(reach) - 10, kLeastExponent) : 1024 - 11;
    while (std::max(std::abs(std::ldexp(low, -exponent_)), std::abs(std::ldexp(high, -exponent_))) > kMostBin)
      exponent_++;
    first_ = bin_of(low);
    counts_.assign(1, 0);
  }
  while (!has_room_for(low, high)) {
    // Bins 2i and 2i + 1 become i.
    const int64_t joined_first = first_ >> 1;
    std::vector<uint64_t> joined(((first_ + static_cast<int64_t>(counts_.size()) - 1) >> 1) - joined_first +
                                 1);
    for (size_t i = 0; i < counts_.size(); i++) {
      joined[((first_ + static_cast<int64_t>(i)) >> 1) - joined_first] += counts_[i];
    }
    counts_ = std::move(joined);
    first_ = joined_first;
    exponent_++;
  }
  const int64_t least = std::min(bin_of(low), first_);
  const int64_t end = std::max(bin_of(high) + 1, first_ + static_cast<int64_t>(counts_.size()));
  counts_.insert(counts_.begin(), static_cast<size_t>(first_ - least), 0);
  counts_.resize(static_cast<size_t>(end - least), 0);
  first_ = least;
}

void HistogramBuilder::add(std::span<const double> values) {
  if (values.empty()) return;
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  widen(*low, *high);
  if (exponent_ >= -1000 && exponent_ <= 1000) {  // faster
    const double scale = std::ldexp(1.0, -exponent_);
    for (const double value : values) {
      counts_[static_cast<size_t>(bin_at(value, value * scale) - first_)]++;
    }
  } else {
    for (const double value : values) counts_[static_cast<size_t>(bin_of(value) - first_)]++;
  }
}

Histogram HistogramBuilder::finish(size_t most_bins) const {
  Histogram result;
  auto used = [](uint64_t count) { return count != 0; };
  const auto begin = std::find_if(counts_.begin(), counts_.end(), used);
  if (begin == counts_.end()) return result;
  const auto end = std::find_if(counts_.rbegin(), counts_.rend(), used).base();
  const int64_t first = first_ + (begin - counts_.begin()), last = first_ + (end - counts_.begin()) - 1;
  int shift = 0;
  while ((last >> shift) - (first >> shift) >= static_cast<int64_t>(most_bins)) shift++;
  result.counts.assign(static_cast<size_t>((last >> shift) - (first >> shift) + 1), 0);
  for (int64_t bin = first; bin <= last; bin++) {
    result.counts[static_cast<size_t>((bin >> shift) - (first >> shift))] +=
        counts_[static_cast<size_t>(bin - first_)];
  }
  result.width = std::ldexp(1.0, exponent_ + shift);
  // The first bin of the largest numbers would begin beyond them.
  result.first =
      std::max(static_cast<double>(first >> shift) * result.width, std::numeric_limits<double>::lowest());
  return result;
}

void StatisticsBuilder::add(std::span<const double> values) {
  std::vector<double> kept;
  for (; !values.empty(); values = values.subspan(std::min(kRun, values.size()))) {
    const std::span<const double> run = values.first(std::min(kRun, values.size()));
    uint64_t zeros = 0, negative_zeros = 0, finite = 0;
    for (const double value : run) {
      zeros += value == 0 ? 1 : 0;
      negative_zeros += value == 0 && std::signbit(value) ? 1 : 0;
      finite += std::isfinite(value) ? 1 : 0;
    }
    sum_.elements += run.size();
    sum_.zeros += zeros;
    sum_.negative_zeros += negative_zeros;
    if (finite == run.size()) {
      add_finite(run);
      continue;
    }
    kept.clear();
    for (const double value : run) {
      if (std::isnan(value)) {
        sum_.nans++;
      } else if (std::isinf(value)) {
        sum_.infinities++;
      } else {
        kept.push_back(value);
      }
    }
    add_finite(kept);
  }
}

// Mean and squares of the run, joined with those before (Chan, Golub and LeVeque 1983).
void StatisticsBuilder::add_finite(std::span<const double> values) {
  if (values.empty()) return;
  const auto count = static_cast<double>(values.size());
  double low = values[0], high = values[0], total = 0, squares = 0;
  for (const double value : values) {
    low = std::min(low, value);
    high = std::max(high, value);
    total += value / count;  // the sum of the largest numbers is none
  }
  for (const double value : values) squares += (value - total) * (value - total);
  const auto before = static_cast<double>(finite_);
  const double all = before + count, apart = total - mean_;
  mean_ += apart * (count / all);
  squares_ += squares + apart * apart * (before / all * count);
  sum_.min = finite_ == 0 ? low : std::min(sum_.min, low);
  sum_.max = finite_ == 0 ? high : std::max(sum_.max, high);
  finite_ += values.size();
  histogram_.add(values);
}

Statistics StatisticsBuilder::finish() const {
  Statistics result = sum_;
  if (finite_ > 0) {
    result.mean = mean_;
    result.standard_deviation = std::sqrt(squares_ / static_cast<double>(finite_));
    result.histogram = histogram_.finish(kMostBins);
  }
  return result;
}

Statistics statistics_of(storage::TensorSource& source, size_t tensor, const storage::ValueField& field) {
  StatisticsBuilder builder;
  const uint64_t elements = source.tensors()[tensor].elements, unit = storage::element_bytes(field.type);
  std::vector<std::byte> bytes, scratch;
  std::vector<double> values;
  for (uint64_t first = 0; first < elements; first += kPieceElements) {
    const uint64_t count = std::min(kPieceElements, elements - first);
    bytes.resize(count * unit);
    values.resize(count);
    storage::read_values(source, tensor, field, first, bytes, scratch);
    storage::to_doubles(field.type, bytes, values);
    builder.add(values);
  }
  return builder.finish();
}

}  // namespace headrace::inspect

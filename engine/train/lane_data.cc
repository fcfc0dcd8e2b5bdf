#include "engine/train/lane_data.h"

#include <fmt/format.h>

#include "engine/math/random.h"
#include "storage/error.h"

namespace headrace::train {

LaneData::LaneData(const TextDataOptions& options)
    : TextData(options),
      lanes_(options.batch),
      seq_(options.seq),
      seed_(options.seed),
      lane_windows_(windows() / options.batch) {
  if (lane_windows_ > 0) return;
  throw Error(
      ErrorKind::kUsage,
      fmt::format("the data file {} is too short: {} bytes make {} sequences of {} tokens, and each of "
                  "the {} lanes takes one at least",
                  options.path, size_bytes(), windows(), seq_, lanes_),
      "give more text, a smaller --batch or a smaller --seq");
}

std::string LaneData::description() const {
  return fmt::format("{} bytes, {} lanes of {} tokens, {} tokens of each a step", size_bytes(), lanes_,
                     lane_windows_ * seq_, seq_);
}

void LaneData::fetch(uint64_t step, BatchData& batch) const {
  const uint64_t epoch = step / lane_windows_, done = step % lane_windows_;
  const uint64_t left_out = windows() - lanes_ * lane_windows_;
  const uint64_t skipped = math::permuted(seed_, epoch, left_out + 1, 0);
  const uint64_t place = (math::permuted(seed_, epoch, lane_windows_, 0) + done) % lane_windows_;
  std::vector<uint64_t> windows;
  for (uint64_t lane = 0; lane < lanes_; lane++) windows.push_back(skipped + lane * lane_windows_ + place);
  read_windows(windows, batch);
  batch.starts_lanes = done == 0 || place == 0;
}

}  // namespace headrace::train

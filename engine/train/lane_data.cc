#include "engine/train/lane_data.h"

#include <fmt/format.h>

#include "storage/error.h"

namespace headrace::train {

LaneData::LaneData(const TextDataOptions& options)
    : TextData(options), lanes_(options.batch), seq_(options.seq), lane_windows_(windows() / options.batch) {
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
  std::vector<uint64_t> windows;
  for (uint64_t lane = 0; lane < lanes_; lane++)
    windows.push_back(lane * lane_windows_ + step % lane_windows_);
  read_windows(windows, batch);
  batch.starts_lanes = step % lane_windows_ == 0;
}

}  // namespace headrace::train

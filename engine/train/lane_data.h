// A data set of text for models that carry state from batch to batch: windows of TextData, cut into as many
// contiguous lanes as a batch has sequences. A step reads the next window of each lane. An epoch takes each
// window of the lanes once: it begins at a window that depends on the seed and the epoch alone, the same in
// all lanes, and behind the lanes' ends goes on at their beginnings; in both places all lanes start anew, and
// batches say so. Windows that make no whole lane are left out, at the text's ends, other ones each epoch.
// Everything is computed from the step: constant memory, and a resume at any step is immediate.
//
// An evaluation takes all windows in order, as TextData's: models begin each with nothing carried.
#pragma once

#include "engine/train/text_data.h"

namespace headrace::train {

class LaneData final : public TextData {
 public:
  // Error (kUsage) also where the text has fewer windows than lanes.
  explicit LaneData(const TextDataOptions& options);
  uint64_t lane_windows() const { return lane_windows_; }
  std::string description() const override;
  void fetch(uint64_t step, BatchData& batch) const override;

 private:
  uint64_t lanes_, seq_, seed_, lane_windows_;
};

}  // namespace headrace::train

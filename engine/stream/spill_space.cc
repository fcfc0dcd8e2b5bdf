#include "engine/stream/spill_space.h"

#include <algorithm>

namespace headrace::stream {

SpillExtent SpillSpace::take(uint64_t bytes) {
  const uint32_t file = next_file_;
  next_file_ = (next_file_ + 1) % uint32_t(free_.size());
  auto& gaps = free_[file];
  auto best = gaps.end();
  for (auto gap = gaps.begin(); gap != gaps.end(); ++gap)
    if (gap->second.bytes >= bytes && (best == gaps.end() || gap->second.bytes < best->second.bytes))
      best = gap;
  if (best == gaps.end()) {
    SpillExtent extent{file, end_[file], bytes, 0};
    end_[file] += bytes;
    return extent;
  }
  SpillExtent extent = best->second;
  gaps.erase(best);
  if (extent.bytes > bytes) {
    gaps.emplace(extent.offset + bytes,
                 SpillExtent{file, extent.offset + bytes, extent.bytes - bytes, extent.after_ops});
    extent.bytes = bytes;
  }
  return extent;
}

void SpillSpace::give_back(const SpillExtent& extent, uint64_t after_ops) {
  auto& gaps = free_[extent.file];
  SpillExtent merged = extent;
  merged.after_ops = after_ops;
  auto next = gaps.lower_bound(extent.offset);
  if (next != gaps.end() && next->first == merged.offset + merged.bytes) {
    merged.bytes += next->second.bytes;
    merged.after_ops = std::max(merged.after_ops, next->second.after_ops);
    next = gaps.erase(next);
  }
  if (next != gaps.begin()) {
    auto previous = std::prev(next);
    if (previous->first + previous->second.bytes == merged.offset) {
      merged.offset = previous->first;
      merged.bytes += previous->second.bytes;
      merged.after_ops = std::max(merged.after_ops, previous->second.after_ops);
      gaps.erase(previous);
    }
  }
  gaps.emplace(merged.offset, merged);
}

}  // namespace headrace::stream

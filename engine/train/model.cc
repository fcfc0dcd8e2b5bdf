#include "engine/train/model.h"

#include <algorithm>

#include <fmt/format.h>

namespace headrace::train {

std::string ExecutionPolicy::description() const {
  return fmt::format("micro-batches of {} {}{}{}{}", micro_batch, micro_batch == 1 ? "sequence" : "sequences",
                     recompute_layers   ? ", layers computed again in the backward pass"
                     : recompute_logits ? ", logits computed again in the backward pass"
                                        : "",
                     recompute_layers && recompute_logits ? ", logits too" : "",
                     blocks_outside ? ", all of them within each weight block" : "");
}

MicroBatches::MicroBatches(const Batch& batch, const ExecutionPolicy& policy)
    : batch_(batch),
      policy_(policy),
      count_(size_t((batch.sequences() + policy.micro_batch - 1) / policy.micro_batch)) {}

std::vector<Span> MicroBatches::spans() const {
  if (policy_.blocks_outside) return {{0, count_}};
  std::vector<Span> spans;
  for (size_t i = 0; i < count_; i++) spans.push_back({i, i + 1});
  return spans;
}

std::span<const int32_t> MicroBatches::part(std::span<const int32_t> all, size_t index) const {
  const size_t tokens = size_t(policy_.micro_batch * batch_.seq);
  const size_t first = index * tokens;
  return all.subspan(first, std::min(tokens, all.size() - first));
}

}  // namespace headrace::train

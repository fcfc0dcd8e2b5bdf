#include "engine/train/batch.h"

#include <fmt/format.h>

namespace headrace::train {

std::string ExecutionPolicy::description() const {
  const std::string rows = unit_rows > 0      ? fmt::format("{} {}", micro_batch * unit_rows, row_name)
                           : micro_batch == 1 ? "1 sequence"
                                              : fmt::format("{} sequences", micro_batch);
  return fmt::format("micro-batches of {}{}{}{}{}", rows,
                     recompute_layers   ? ", layers computed again in the backward pass"
                     : recompute_logits ? ", logits computed again in the backward pass"
                                        : "",
                     recompute_layers && recompute_logits ? ", logits too" : "",
                     blocks_outside ? ", all of them within each weight block" : "",
                     streams_recurrent ? ", recurrent weights read again at each time step" : "");
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

}  // namespace headrace::train

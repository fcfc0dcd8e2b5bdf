#include "models/dropout.h"

#include "engine/math/dropout.h"

namespace headrace::models {
namespace {

// Of the streams of random numbers; the low ones are the tensors' first values.
constexpr uint64_t kFirstStream = uint64_t{1} << 63, kLayerBits = 12;

}  // namespace

void Dropout::apply(Context& context, const train::MicroBatches& parts, train::Span span,
                    const std::vector<Tensor>& x) const {
  if (rate_ == 0) return;
  for (size_t i = 0; i < x.size(); i++)
    context.compute({.reads = {x[i]}, .writes = {x[i]}}, [&](stream::Workspace) {
      apply(parts.batch(), parts.first_row(span.first + i), context.matrix(x[i]));
    });
}

void Dropout::apply(const train::Batch& batch, uint64_t first_row, math::Matrix values) const {
  if (rate_ == 0) return;
  math::dropout(values, float(rate_), batch.seed, kFirstStream + (batch.step << kLayerBits) + layer_,
                int64_t(first_row), values);
}

}  // namespace headrace::models

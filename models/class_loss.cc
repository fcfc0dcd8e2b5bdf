#include "models/class_loss.h"

#include <algorithm>

#include "engine/math/kernels.h"

namespace headrace::models {

using math::SoftmaxState;
using stream::Tensor;
using stream::Workspace;

namespace {

constexpr int64_t kMostConfusedClasses = 256;  // a confusion matrix of more is not kept

}  // namespace

Tensor ClassLoss::run(stream::Context& context, const Tensor& logits, std::span<const int32_t> targets,
                      bool training) {
  const auto counted =
      std::count_if(targets.begin(), targets.end(), [](int32_t target) { return target >= 0; });
  context.compute(
      {.reads = {logits}, .writes = {logits}, .workspace_bytes = size_t(logits.rows) * sizeof(SoftmaxState)},
      [&, counted](Workspace workspace) {
        const math::Matrix values = context.matrix(logits);
        const std::span<SoftmaxState> states(reinterpret_cast<SoftmaxState*>(workspace.data()),
                                             size_t(logits.rows));
        if (observer_) observer_(values);
        math::softmax_start(states);
        math::softmax_fold(values, 0, targets, states);
        loss_ = math::cross_entropy_sum(states, targets) / double(counted);
        if (training)
          math::cross_entropy_backward(values, 0, targets, states, 1.0F / float(counted));
        else
          count(values, targets);
      });
  return logits;
}

void ClassLoss::count(math::ConstMatrix logits, std::span<const int32_t> targets) {
  metrics_ = {};
  const bool confusion = logits.columns <= kMostConfusedClasses;
  if (confusion) metrics_.confusion.assign(size_t(logits.columns * logits.columns), 0);
  for (int64_t r = 0; r < logits.rows; r++) {
    if (targets[size_t(r)] < 0) continue;
    const float* row = logits.row(r);
    const auto predicted = std::max_element(row, row + logits.columns) - row;
    metrics_.rows++;
    metrics_.right += predicted == targets[size_t(r)];
    if (confusion) metrics_.confusion[size_t(targets[size_t(r)] * logits.columns + predicted)]++;
  }
}

}  // namespace headrace::models

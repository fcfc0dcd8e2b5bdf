// Cross entropy of logits that are a tensor of their own [rows, classes], against the classes of some of the
// rows.
#pragma once

#include <functional>
#include <span>

#include "engine/stream/context.h"
#include "engine/train/metrics.h"

namespace headrace::models {

class ClassLoss {
 public:
  explicit ClassLoss(std::function<void(math::ConstMatrix logits)> observer)
      : observer_(std::move(observer)) {}

  // Takes the mean over the rows whose target is not negative. Training, logits become the mean's gradient,
  // and are returned; otherwise the classes that have the largest logits are counted. `targets` must stay
  // until the pass has run.
  stream::Tensor run(stream::Context& context, const stream::Tensor& logits, std::span<const int32_t> targets,
                     bool training);
  double loss() const { return loss_; }
  const train::Metrics& metrics() const { return metrics_; }  // of the last pass that did not train

 private:
  void count(math::ConstMatrix logits, std::span<const int32_t> targets);

  std::function<void(math::ConstMatrix logits)> observer_;
  double loss_ = 0;
  train::Metrics metrics_;
};

}  // namespace headrace::models

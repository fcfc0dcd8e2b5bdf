// Losses of a network's outputs against values: mean squared error, and binary cross entropy with logits.
#pragma once

#include <vector>

#include "engine/train/batch.h"
#include "engine/train/metrics.h"
#include "models/linear.h"

namespace headrace::models {

enum class DenseLossKind : uint8_t { kSquaredError, kBinaryCrossEntropy };

class DenseLoss {
 public:
  explicit DenseLoss(DenseLossKind kind) : kind_(kind) {}

  // Sets the sums of the losses of the span's units in `loss_sums` [unit of the batch], divided by the
  // columns: the mean over a row's values counts. Adds to `metrics` where there are any.
  void forward(Context& context, const train::MicroBatches& batch, train::Span span,
               const std::vector<Tensor>& y, std::vector<double>& loss_sums, train::Metrics* metrics) const;
  // y[i] becomes the gradient of the mean loss over all rows of the batch.
  void backward(Context& context, const train::MicroBatches& batch, train::Span span,
                const std::vector<Tensor>& y) const;

 private:
  DenseLossKind kind_;
};

}  // namespace headrace::models

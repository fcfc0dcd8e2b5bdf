// Dropout between layers while a model trains. What is dropped follows from the seed of the run, the step,
// the layer and the place of the element in the batch alone, so that nothing is kept for the backward pass,
// and a resumed run, other micro-batches and other budgets drop the same.
#pragma once

#include <vector>

#include "engine/train/batch.h"
#include "models/linear.h"

namespace headrace::models {

class Dropout {
 public:
  // `rate`: of the elements that become zero, below 1; the others are scaled by 1 / (1 - rate). `layer`:
  // tells the places of a model apart.
  Dropout(double rate, uint64_t layer) : rate_(rate), layer_(layer) {}

  // In place: of x forward, of its gradient backward. x[i]: micro-batch span.first + i.
  void apply(Context& context, const train::MicroBatches& parts, train::Span span,
             const std::vector<Tensor>& x) const;
  // Rows from `first_row` of the batch on; within an operation of the caller's.
  void apply(const train::Batch& batch, uint64_t first_row, math::Matrix values) const;

 private:
  double rate_;
  uint64_t layer_;
};

}  // namespace headrace::models

// The output projection fused with softmax and cross entropy, streamed over the vocabulary: logits exist one
// block of the vocabulary at a time, kept for the backward pass (like any activation) or computed again
// there.
#pragma once

#include <functional>
#include <optional>
#include <utility>
#include <vector>

#include "engine/train/model.h"
#include "models/linear.h"

namespace headrace::models {

// Sees the logits of a forward pass, a block of the vocabulary at a time: those of entries [first_row,
// first_row + logits.columns) for the tokens of a micro-batch. Blocks come in order.
using LogitsObserver = std::function<void(size_t micro_batch, int64_t first_row, math::ConstMatrix logits)>;

class CrossEntropyHead {
 public:
  // `weight` [vocabulary, n]; `bias`: a bundle [vocabulary, 1].
  explicit CrossEntropyHead(stream::Parameter weight, LogitsObserver observer = {},
                            std::optional<stream::Parameter> bias = {})
      : weight_(weight), bias_(bias), observer_(std::move(observer)) {}

  // Kept from forward() to backward().
  struct Saved {
    std::vector<Tensor> states;               // [tokens, 3] of each micro-batch
    std::vector<std::vector<Tensor>> logits;  // [tokens, rows] of each block and micro-batch
  };

  // Sets the sums of the losses of the span's sequences in `loss_sums` [sequence of the batch]: sequence by
  // sequence, so that they do not depend on micro-batches.
  Saved forward(Context& context, const train::MicroBatches& batch, train::Span span,
                const std::vector<Tensor>& x, std::vector<double>& loss_sums) const;
  // Gradient of the mean loss over all tokens of the batch with respect to x.
  std::vector<Tensor> backward(Context& context, const train::MicroBatches& batch, train::Span span,
                               const std::vector<Tensor>& x, const Saved& saved, bool recompute_logits) const;

 private:
  Vectors vectors(Context& context, bool gradient) const;
  const float* bias_of(const Context& context, const Vectors& vectors, int64_t first) const;

  stream::Parameter weight_;
  std::optional<stream::Parameter> bias_;
  LogitsObserver observer_;
};

}  // namespace headrace::models

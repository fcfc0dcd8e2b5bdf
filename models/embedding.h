// Token and position embedding: x[t] = token row (+ position row). Only the blocks whose rows a batch uses
// are read; which these are is known when the step is recorded.
#pragma once

#include <optional>
#include <vector>

#include "engine/train/model.h"
#include "models/linear.h"

namespace headrace::models {

class Embedding {
 public:
  Embedding(const storage::Layout& layout, stream::Parameter tokens, stream::Parameter positions)
      : layout_(layout), tokens_(tokens), positions_(positions) {}
  // Without positions. The weight is nobody else's: all its rows get a gradient, most of them zero.
  Embedding(const storage::Layout& layout, stream::Parameter tokens) : layout_(layout), tokens_(tokens) {}

  std::vector<Tensor> forward(Context& context, const train::MicroBatches& batch, train::Span span) const;
  void backward(Context& context, const train::MicroBatches& batch, train::Span span,
                const std::vector<Tensor>& dx) const;

 private:
  std::vector<uint32_t> token_blocks(const train::MicroBatches& batch, train::Span span) const;
  std::vector<uint32_t> position_blocks(int64_t seq) const;

  const storage::Layout& layout_;
  stream::Parameter tokens_;                    // [vocabulary, n]
  std::optional<stream::Parameter> positions_;  // [positions, n]
};

}  // namespace headrace::models

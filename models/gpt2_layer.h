// One transformer layer of GPT-2: x + proj(attention(norm(x))), then the same with the MLP.
#pragma once

#include <array>
#include <vector>

#include "models/gpt2_config.h"
#include "models/transformer_parts.h"

namespace headrace::models {

class Gpt2Layer {
 public:
  static constexpr uint32_t kTensors = 5;

  // `parameters`: c_attn, c_proj, c_fc, MLP's c_proj, and the bundle of all vectors.
  Gpt2Layer(const Gpt2Config& config, const std::array<stream::Parameter, kTensors>& parameters);

  // What the forward pass leaves for the backward pass, of each micro-batch of a span.
  struct Kept {
    std::vector<Tensor> x;  // the layer's input
    std::vector<Tensor> qkv;
    AttentionOutput attention;
    std::vector<Tensor> middle;  // x + attention's contribution
    std::vector<Tensor> hidden;  // before GELU
    std::vector<Tensor> y;       // the layer's output
  };

  Kept forward(Context& context, int64_t seq, const std::vector<Tensor>& x) const;
  // dy becomes dx in place. `recompute`: what `kept` holds beside x is computed again, not read.
  void backward(Context& context, int64_t seq, const Kept& kept, bool recompute,
                const std::vector<Tensor>& dy) const;

 private:
  Kept forward_to_hidden(Context& context, int64_t seq, const std::vector<Tensor>& x,
                         const Vectors& vectors) const;

  stream::Parameter vectors_;
  math::AttentionShape shape_;
  LayerNorm norm1_, norm2_;
  Linear qkv_, attention_proj_, fc_, mlp_proj_;
};

}  // namespace headrace::models

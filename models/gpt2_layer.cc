#include "models/gpt2_layer.h"

namespace headrace::models {

// Offsets in the bundle follow gpt2_tensors(): norm 1 (weight, bias), c_attn, c_proj, norm 2 (weight, bias),
// c_fc, MLP's c_proj.
Gpt2Layer::Gpt2Layer(const Gpt2Config& config, const std::array<stream::Parameter, kTensors>& parameters)
    : vectors_(parameters[4]),
      shape_{.sequence = 0,
             .heads = int64_t(config.n_head),
             .head_size = int64_t(config.n_embd / config.n_head)},
      norm1_(0, int64_t(config.n_embd), float(config.layer_norm_epsilon)),
      norm2_(int64_t(6 * config.n_embd), int64_t(7 * config.n_embd), float(config.layer_norm_epsilon)),
      qkv_(parameters[0], int64_t(2 * config.n_embd)),
      attention_proj_(parameters[1], int64_t(5 * config.n_embd)),
      fc_(parameters[2], int64_t(8 * config.n_embd)),
      mlp_proj_(parameters[3], int64_t(8 * config.n_embd + config.n_inner)) {}

Gpt2Layer::Kept Gpt2Layer::forward_to_hidden(Context& context, int64_t seq, const std::vector<Tensor>& x,
                                             const Vectors& vectors) const {
  math::AttentionShape shape = shape_;
  shape.sequence = seq;
  Kept kept;
  kept.x = x;
  kept.qkv = qkv_.forward(context, norm1_.forward(context, x, vectors), vectors);
  kept.attention = attention(context, kept.qkv, shape);
  kept.middle = attention_proj_.forward(context, kept.attention.out, vectors);
  add_to(context, x, kept.middle);
  kept.hidden = fc_.forward(context, norm2_.forward(context, kept.middle, vectors), vectors);
  return kept;
}

Gpt2Layer::Kept Gpt2Layer::forward(Context& context, int64_t seq, const std::vector<Tensor>& x) const {
  const Vectors vectors{.values = context.load_vectors(vectors_), .gradient = {}};
  Kept kept = forward_to_hidden(context, seq, x, vectors);
  kept.y = mlp_proj_.forward(context, gelu(context, kept.hidden), vectors);
  add_to(context, kept.middle, kept.y);
  return kept;
}

void Gpt2Layer::backward(Context& context, int64_t seq, const Kept& from_forward, bool recompute,
                         const std::vector<Tensor>& dy) const {
  math::AttentionShape shape = shape_;
  shape.sequence = seq;
  const Vectors vectors{.values = context.load_vectors(vectors_),
                        .gradient = context.gradient_of_vectors(vectors_)};
  const Kept kept = recompute ? forward_to_hidden(context, seq, from_forward.x, vectors) : from_forward;

  const std::vector<Tensor> dhidden =
      mlp_proj_.backward(context, gelu(context, kept.hidden), dy, vectors, seq);
  gelu_backward(context, kept.hidden, dhidden);
  const std::vector<Tensor> dnorm2 =
      fc_.backward(context, norm2_.forward(context, kept.middle, vectors), dhidden, vectors, seq);
  norm2_.backward(context, kept.middle, dnorm2, dy, true, vectors, seq);

  const std::vector<Tensor> dattention =
      attention_proj_.backward(context, kept.attention.out, dy, vectors, seq);
  const std::vector<Tensor> dqkv = attention_backward(context, kept.qkv, shape, kept.attention, dattention);
  const std::vector<Tensor> dnorm1 =
      qkv_.backward(context, norm1_.forward(context, kept.x, vectors), dqkv, vectors, seq);
  norm1_.backward(context, kept.x, dnorm1, dy, true, vectors, seq);
  context.end_vectors(vectors_);
}

}  // namespace headrace::models

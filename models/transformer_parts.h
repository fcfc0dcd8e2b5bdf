// The parts of a transformer layer without weights of their own, over micro-batches: layer norm (its weight
// and bias are in the layer's bundle), GELU, the residual addition, causal attention.
#pragma once

#include <vector>

#include "engine/math/kernels.h"
#include "models/linear.h"

namespace headrace::models {

class LayerNorm {
 public:
  // `weight`, `bias`: first elements in the bundle.
  LayerNorm(int64_t weight, int64_t bias, float epsilon) : weight_(weight), bias_(bias), epsilon_(epsilon) {}

  std::vector<Tensor> forward(Context& context, const std::vector<Tensor>& x, const Vectors& vectors) const;
  // dx[i] += the gradient through the norm of dy[i]; dx[i] may be a tensor that nothing has written yet.
  void backward(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& dy,
                const std::vector<Tensor>& dx, bool add, const Vectors& vectors, int64_t seq) const;

 private:
  int64_t weight_, bias_;
  float epsilon_;
};

std::vector<Tensor> gelu(Context& context, const std::vector<Tensor>& x);
void gelu_backward(Context& context, const std::vector<Tensor>& x,
                   const std::vector<Tensor>& dy);  // in place

void add_to(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& y);  // y += x

struct AttentionOutput {
  std::vector<Tensor> out;          // [tokens, heads * head_size]
  std::vector<Tensor> log_sum_exp;  // [tokens, heads]
};
AttentionOutput attention(Context& context, const std::vector<Tensor>& qkv,
                          const math::AttentionShape& shape);
std::vector<Tensor> attention_backward(Context& context, const std::vector<Tensor>& qkv,
                                       const math::AttentionShape& shape, const AttentionOutput& forward,
                                       const std::vector<Tensor>& dout);

}  // namespace headrace::models

// The parts of a transformer layer without weights, over micro-batches: GELU, the residual addition, causal
// attention.
#pragma once

#include <vector>

#include "engine/math/kernels.h"
#include "models/layer_norm.h"
#include "models/linear.h"

namespace headrace::models {

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

#include "models/transformer_parts.h"

namespace headrace::models {

using stream::Workspace;

std::vector<Tensor> gelu(Context& context, const std::vector<Tensor>& x) {
  std::vector<Tensor> y;
  for (const Tensor& input : x) {
    y.push_back(context.tensor(input.rows, input.columns));
    context.compute({.reads = {input}, .writes = {y.back()}},
                    [&](Workspace) { math::gelu(context.matrix(input), context.matrix(y.back())); });
  }
  return y;
}

void gelu_backward(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& dy) {
  for (size_t i = 0; i < x.size(); i++)
    context.compute({.reads = {x[i]}, .writes = {dy[i]}}, [&](Workspace) {
      const math::Matrix d = context.matrix(dy[i]);
      math::gelu_backward(context.matrix(x[i]), d, d);
    });
}

void add_to(Context& context, const std::vector<Tensor>& x, const std::vector<Tensor>& y) {
  for (size_t i = 0; i < x.size(); i++)
    context.compute({.reads = {x[i]}, .writes = {y[i]}}, [&](Workspace) {
      math::add(context.matrix(y[i]), context.matrix(x[i]), context.matrix(y[i]));
    });
}

AttentionOutput attention(Context& context, const std::vector<Tensor>& qkv,
                          const math::AttentionShape& shape) {
  AttentionOutput output;
  for (const Tensor& input : qkv) {
    const Tensor out = context.tensor(input.rows, shape.heads * shape.head_size);
    const Tensor log_sum_exp = context.tensor(input.rows, shape.heads);
    context.compute({.reads = {input},
                     .writes = {out, log_sum_exp},
                     .workspace_bytes = math::attention_workspace_bytes(shape)},
                    [&](Workspace workspace) {
                      math::attention(context.matrix(input), shape, context.matrix(out),
                                      context.matrix(log_sum_exp), workspace);
                    });
    output.out.push_back(out);
    output.log_sum_exp.push_back(log_sum_exp);
  }
  return output;
}

std::vector<Tensor> attention_backward(Context& context, const std::vector<Tensor>& qkv,
                                       const math::AttentionShape& shape, const AttentionOutput& forward,
                                       const std::vector<Tensor>& dout) {
  std::vector<Tensor> dqkv;
  for (size_t i = 0; i < qkv.size(); i++) {
    dqkv.push_back(context.tensor(qkv[i].rows, qkv[i].columns));
    context.compute({.reads = {qkv[i], forward.out[i], forward.log_sum_exp[i], dout[i]},
                     .writes = {dqkv[i]},
                     .workspace_bytes = math::attention_workspace_bytes(shape)},
                    [&](Workspace workspace) {
                      math::attention_backward(context.matrix(qkv[i]), shape, context.matrix(forward.out[i]),
                                               context.matrix(forward.log_sum_exp[i]),
                                               context.matrix(dout[i]), context.matrix(dqkv[i]), workspace);
                    });
  }
  return dqkv;
}

}  // namespace headrace::models

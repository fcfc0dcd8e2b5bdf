// Layer norm: each row is normalized over its columns. Its weight and bias are in the layer's bundle.
#pragma once

#include <memory>
#include <vector>

#include "models/linear.h"
#include "models/norm.h"

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

// torch.nn.LayerNorm, with its epsilon.
std::unique_ptr<Norm> make_layer_norm(const NormPlace& place);

}  // namespace headrace::models

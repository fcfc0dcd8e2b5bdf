#include "models/activation.h"

#include <algorithm>
#include <array>

#include "engine/math/activations.h"
#include "engine/math/kernels.h"

namespace headrace::models {
namespace {

struct Kernels {
  void (*forward)(math::ConstMatrix x, math::Matrix y);
  void (*backward)(math::ConstMatrix x, math::ConstMatrix dy, math::Matrix dx);
};

// By the enumeration.
constexpr std::array<Kernels, 4> kKernels{{{math::relu, math::relu_backward},
                                           {math::tanh, math::tanh_backward},
                                           {math::sigmoid, math::sigmoid_backward},
                                           {math::gelu, math::gelu_backward}}};

}  // namespace

std::span<const std::string> activation_names() {
  static const std::array<std::string, 4> names{"relu", "tanh", "sigmoid", "gelu"};
  return names;
}

Activation activation_by_name(const std::string& name) {
  const auto names = activation_names();
  const auto found = std::find(names.begin(), names.end(), name);
  HEADRACE_CHECK(found != names.end(), name);
  return Activation(found - names.begin());
}

std::vector<Tensor> activate(Context& context, Activation activation, const std::vector<Tensor>& x) {
  const Kernels& kernels = kKernels[size_t(activation)];
  std::vector<Tensor> y;
  for (const Tensor& input : x) {
    y.push_back(context.tensor(input.rows, input.columns));
    context.compute({.reads = {input}, .writes = {y.back()}}, [&](stream::Workspace) {
      kernels.forward(context.matrix(input), context.matrix(y.back()));
    });
  }
  return y;
}

void activate_backward(Context& context, Activation activation, const std::vector<Tensor>& x,
                       const std::vector<Tensor>& dy) {
  const Kernels& kernels = kKernels[size_t(activation)];
  for (size_t i = 0; i < x.size(); i++)
    context.compute({.reads = {x[i]}, .writes = {dy[i]}}, [&](stream::Workspace) {
      const math::Matrix d = context.matrix(dy[i]);
      kernels.backward(context.matrix(x[i]), d, d);
    });
}

}  // namespace headrace::models

// Activations between layers, over micro-batches: relu, tanh, sigmoid, gelu (by tanh).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "models/linear.h"

namespace headrace::models {

enum class Activation : uint8_t { kRelu, kTanh, kSigmoid, kGelu };

std::span<const std::string> activation_names();         // in the order of the enumeration
Activation activation_by_name(const std::string& name);  // one of them

std::vector<Tensor> activate(Context& context, Activation activation, const std::vector<Tensor>& x);
// dy[i] becomes the gradient with respect to x[i], the input of activate().
void activate_backward(Context& context, Activation activation, const std::vector<Tensor>& x,
                       const std::vector<Tensor>& dy);

}  // namespace headrace::models

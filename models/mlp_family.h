// Lines of the table of models for perceptrons and softmax regression, which take tables and images.
#pragma once

#include "models/registry.h"

namespace headrace::models {

ModelFamily mlp_family();
ModelFamily softmax_regression_family();

}  // namespace headrace::models

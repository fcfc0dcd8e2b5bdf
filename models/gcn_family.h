// The line of the models' table for graph convolutional networks.
#pragma once

#include "models/registry.h"

namespace headrace::models {

ModelFamily gcn_family();

}  // namespace headrace::models

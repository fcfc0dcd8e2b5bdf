// The lines of the models' table for recurrent language models: one for each kind of cell.
#pragma once

#include "models/recurrent_cells.h"
#include "models/registry.h"

namespace headrace::models {

ModelFamily recurrent_family(const RecurrentCell& cell);

}  // namespace headrace::models

// The kinds of recurrent layers: a line of a table each.
#pragma once

#include <span>
#include <string>

#include "engine/math/recurrent_cell.h"

namespace headrace::models {

using math::RecurrentCell;

std::span<const RecurrentCell> recurrent_cells();
const RecurrentCell& recurrent_cell(const std::string& name);  // one of the table's

}  // namespace headrace::models

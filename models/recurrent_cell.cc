#include "models/recurrent_cell.h"

#include <algorithm>
#include <vector>

#include "storage/error.h"

namespace headrace::models {

std::span<const RecurrentCell> recurrent_cells() {
  static const std::vector<RecurrentCell> cells{
      {.name = "rnn", .gates = 1, .forward = math::rnn_cell, .backward = math::rnn_cell_backward},
      {.name = "lstm",
       .gates = 4,
       .has_cell_state = true,
       .forward = math::lstm_cell,
       .backward = math::lstm_cell_backward},
      {.name = "gru",
       .gates = 3,
       .separate_recurrent = true,
       .forward = math::gru_cell,
       .backward = math::gru_cell_backward},
  };
  return cells;
}

const RecurrentCell& recurrent_cell(const std::string& name) {
  const std::span<const RecurrentCell> cells = recurrent_cells();
  const auto found =
      std::find_if(cells.begin(), cells.end(), [&](const RecurrentCell& cell) { return cell.name == name; });
  HEADRACE_CHECK(found != cells.end(), name);
  return *found;
}

}  // namespace headrace::models

#include "models/recurrent_cells.h"

#include <algorithm>
#include <vector>

#include "engine/math/gru_cell.h"
#include "engine/math/lstm_cell.h"
#include "engine/math/rnn_cell.h"
#include "engine/math/rnn_relu_cell.h"
#include "storage/error.h"

namespace headrace::models {

std::span<const RecurrentCell> recurrent_cells() {
  static const std::vector<RecurrentCell> cells{
      math::rnn_cell(),
      math::rnn_relu_cell(),
      math::lstm_cell(),
      math::gru_cell(),
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

// The kinds of recurrent layers: what a time step keeps and how it is computed; a line of a table each.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "engine/math/recurrent.h"

namespace headrace::models {

struct RecurrentCell {
  std::string name;             // "lstm"; also the "model_type" of a language model of such layers
  int64_t gates = 1;            // rows of its weights, in hidden sizes
  bool has_cell_state = false;  // c beside h
  // The gradient of the recurrent product is not that of the gates, and h_before has a way around the
  // product.
  bool separate_recurrent = false;
  void (*forward)(const math::CellStep&) = nullptr;
  void (*backward)(const math::CellGradient&) = nullptr;

  int64_t states() const { return has_cell_state ? 2 : 1; }
};

std::span<const RecurrentCell> recurrent_cells();
const RecurrentCell& recurrent_cell(const std::string& name);  // one of the table's

}  // namespace headrace::models

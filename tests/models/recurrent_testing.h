// The tests of recurrent models run for each line of the table of cells.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "models/recurrent_cells.h"

namespace headrace::testing {

inline std::vector<std::string> cell_names() {
  std::vector<std::string> names;
  for (const models::RecurrentCell& cell : models::recurrent_cells()) names.push_back(cell.name);
  return names;
}

inline std::string cell_test_name(const ::testing::TestParamInfo<std::string>& instance) {
  std::string name = instance.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace headrace::testing

// Tables of numbers as text, separated by commas: read once from beginning to end and kept as numbers in
// files without names, so that rows can be read at any place in constant memory.
//
// A first line with a field that is no number is a header. Fields may stand in double quotes; spaces around
// them, empty lines and carriage returns at the ends of lines do not matter. The file may be packed by gzip.
// Failure: Error (kUsage) that names row (a line of the file, from 1) and column of what cannot be read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/train/number_rows.h"

namespace headrace::train {

struct CsvTable {
  std::unique_ptr<NumberRows> features, targets;
};

// The last `target_columns` columns are the targets.
CsvTable read_csv(const std::string& path, uint64_t target_columns, const std::string& scratch_folder);

}  // namespace headrace::train

// The global 2-norm of a step's gradient, from partial sums over panels of 256 rows, each a double, added in
// the order of the tensor table whatever the order in which blocks became ready.
#pragma once

#include <span>
#include <vector>

#include "storage/layout.h"

namespace headrace::train {

class GradientNorm {
 public:
  explicit GradientNorm(const storage::Layout& layout);
  // The complete gradient of a block [rows, columns]. Any thread, different blocks at the same time.
  void add(storage::BlockId block, const float* gradient);
  double norm() const;  // of all blocks, as added last

 private:
  const storage::Layout& layout_;
  std::vector<size_t> first_panel_;  // by block
  std::vector<double> sums_;         // by panel
};

}  // namespace headrace::train

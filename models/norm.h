// Norms between a linear layer and its activation, over micro-batches. A norm is a pair of files and a line
// of the table in norm.cc.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "models/linear.h"

namespace headrace::models {

// What a norm has of the model's tensors.
struct NormPlace {
  int64_t columns = 0;
  // The bundle that holds its weight [columns], from element `first` on, and behind it its bias [columns].
  stream::Parameter vectors;
  int64_t first = 0;
  stream::Parameter state = {};  // NormKind::state, [columns] each
};

class Norm {
 public:
  virtual ~Norm() = default;
  // Sees all rows of the step, the micro-batches of all spans, before any of them is normalized.
  virtual void begin(Context&, const std::vector<std::vector<Tensor>>& /*x*/, bool /*training*/) {}
  virtual std::vector<Tensor> forward(Context& context, const std::vector<Tensor>& x) const = 0;
  // Takes the gradients of what forward() returned for all spans, returns those of x, which may be the same
  // tensors; adds to the parameters' gradients, and gives the state its next value. `seq`: rows of a unit.
  virtual std::vector<std::vector<Tensor>> backward(Context& context,
                                                    const std::vector<std::vector<Tensor>>& x,
                                                    const std::vector<std::vector<Tensor>>& dy,
                                                    int64_t seq) = 0;
};

// A line of the table.
struct NormKind {
  std::string name;                                  // that --norm takes
  std::vector<std::pair<std::string, float>> state;  // names and first values
  uint64_t least_rows = 1;                           // of a step
  bool layer_has_bias = true;                        // false: the norm takes out what a bias would add
  std::unique_ptr<Norm> (*make)(const NormPlace& place);
};

std::span<const NormKind> norm_kinds();
// "none", and the names of the kinds.
std::span<const std::string> norm_names();
const NormKind* norm_by_name(const std::string& name);  // one of these; null: none

}  // namespace headrace::models

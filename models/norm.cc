#include "models/norm.h"

#include "models/batch_norm.h"
#include "models/layer_norm.h"

namespace headrace::models {

std::span<const NormKind> norm_kinds() {
  static const std::vector<NormKind> kinds{
      {.name = "layer", .state = {}, .make = make_layer_norm},
      {.name = "batch",
       .state = {{"running_mean", 0}, {"running_var", 1}},
       .least_rows = 2,
       .layer_has_bias = false,
       .make = make_batch_norm},
  };
  return kinds;
}

std::span<const std::string> norm_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all{"none"};
    for (const NormKind& kind : norm_kinds()) all.push_back(kind.name);
    return all;
  }();
  return names;
}

const NormKind* norm_by_name(const std::string& name) {
  for (const NormKind& kind : norm_kinds())
    if (kind.name == name) return &kind;
  return nullptr;
}

}  // namespace headrace::models

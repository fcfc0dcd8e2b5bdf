#include "engine/train/optimizer.h"

#include <algorithm>

#include <fmt/format.h>

#include "storage/error.h"
#include "storage/text.h"

namespace headrace::train {

std::span<const OptimizerFamily> optimizer_families() {
  static const std::vector<OptimizerFamily> table{
      {"adamw", {"weight-decay", "beta1", "beta2", "eps"}, {}, make_adamw},
      {"adamw8bit", {"weight-decay", "beta1", "beta2", "eps"}, {}, make_adamw8bit},
      {"adam", {"beta1", "beta2", "eps"}, {}, make_adamw},
      {"sgd", {"momentum", "nesterov"}, {{"lr", "0.01"}}, make_sgd},
      {"lion", {"weight-decay", "beta1", "beta2"}, {{"lr", "0.0001"}, {"beta2", "0.99"}}, make_lion},
  };
  return table;
}

const OptimizerFamily& optimizer_family(const RunOptions& options) {
  std::vector<std::string> names;
  for (const OptimizerFamily& family : optimizer_families()) {
    if (family.name == options.optimizer) return family;
    names.push_back(family.name);
  }
  throw Error(ErrorKind::kUsage, "unknown optimizer '" + printable(options.optimizer) + "'",
              suggestion(options.optimizer, names));
}

std::unique_ptr<Optimizer> make_optimizer(const RunOptions& options) {
  return optimizer_family(options).make(options);
}

void check_optimizer_options(const RunOptions& options) {
  const std::vector<std::string>& taken = optimizer_family(options).options;
  const bool has_momentum = std::find(taken.begin(), taken.end(), "momentum") != taken.end();
  if (options.momentum != 0 && !has_momentum) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--momentum does not apply to the optimizer {}", options.optimizer),
                "leave it out, or give --optimizer sgd");
  }
  if (options.nesterov && options.momentum == 0) {
    throw Error(ErrorKind::kUsage, "--nesterov was given without momentum",
                "give --optimizer sgd --momentum 0.9, or leave --nesterov out");
  }
}

stream::BlockPlanes entries_of(const RunOptions& options, const std::vector<storage::Plane>& planes) {
  return {.weight_planes = options.weights == WeightPrecision::kFloat32 ? 2U : 1U,
          .planes = uint32_t(planes.size())};
}

math::GradientTerms gradient_terms(const RunOptions& options, const OptimizerStep& step, bool decay) {
  return {.scale = step.gradient_scale, .l1 = decay ? options.l1 : 0, .l2 = decay ? options.l2 : 0};
}

}  // namespace headrace::train

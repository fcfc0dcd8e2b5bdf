#include "tools/new_training.h"

#include <algorithm>

#include "engine/train/run_options.h"
#include "storage/error.h"

namespace headrace::tools {

bool may_change_for_new_training(const std::string& name) {
  static const std::vector<std::string> names{
      "batch",          "optimizer",     "lr",          "min-lr",    "warmup",      "schedule",
      "schedule-steps", "weight-decay",  "beta1",       "beta2",     "eps",         "clip",
      "momentum",       "nesterov",      "l1",          "l2",        "seed",        "weights",
      "prune-sparsity", "prune-initial", "prune-begin", "prune-end", "prune-every", "prune-embeddings"};
  return std::find(names.begin(), names.end(), name) != names.end();
}

void complete_for_new_training(TrainRequest& request, const std::vector<GivenOption>& options) {
  const train::RunOptions before = request.run;
  TrainRequest defaults;
  apply_options(options, request);
  if (request.run.optimizer != before.optimizer) {
    std::vector<std::string> of_before = train::optimizer_family(before).options;
    of_before.push_back("lr");
    for (const TrainOption& option : train_options()) {
      const std::string& name = option.entry.name;
      const bool left = std::find(of_before.begin(), of_before.end(), name) != of_before.end();
      if (!left || request.given.contains(name)) continue;
      const std::string problem = option.entry.set(request, option.entry.get(defaults));
      HEADRACE_CHECK(problem.empty(), name);
    }
    apply_optimizer(train::optimizer_family(request.run), request);
  } else {
    TrainRequest same = request;  // its values stay those of the training before
    apply_optimizer(train::optimizer_family(request.run), same);
  }
  if (request.run.lr != before.lr && !request.given.contains("min-lr"))
    request.run.min_lr = request.run.lr / 10;
  train::check_run_options(request.run);
}

}  // namespace headrace::tools

// What a new training with the weights of another may choose. Failure: Error (kUsage).
#pragma once

#include <string>
#include <vector>

#include "tools/options.h"

namespace headrace::tools {

bool may_change_for_new_training(const std::string& name);
// Applies options that were given, and what follows from them: another optimizer takes its own defaults,
// --min-lr follows --lr. `request.run` is of the training before.
void complete_for_new_training(TrainRequest& request, const std::vector<GivenOption>& options);

}  // namespace headrace::tools

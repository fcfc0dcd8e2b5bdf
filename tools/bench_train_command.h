// headrace bench DIR... --pattern train, a command within a command: its options are those of a training.
#pragma once

#include <string>
#include <vector>

namespace headrace::tools {

// Whether the arguments of `bench` ask for it.
bool asks_for_training_pattern(const std::vector<std::string>& arguments);
void run_bench_train(const std::vector<std::string>& arguments);

}  // namespace headrace::tools

// The subcommands. Each takes the arguments behind its name, prints results to standard output and narration
// to standard error, and throws Error for what goes wrong.
#pragma once

#include <string>
#include <vector>

namespace headrace::tools {

struct Command {
  std::string name, help;
  void (*run)(const std::vector<std::string>& arguments);
};

const std::vector<Command>& commands();

void run_train(const std::vector<std::string>& arguments);
void run_eval(const std::vector<std::string>& arguments);
void run_bench(const std::vector<std::string>& arguments);
void run_plan(const std::vector<std::string>& arguments);
void run_inspect(const std::vector<std::string>& arguments);
void run_checkpoint(const std::vector<std::string>& arguments);
void run_quantize(const std::vector<std::string>& arguments);
void run_restore(const std::vector<std::string>& arguments);

// Runs the command line `arguments` (without the program's name), reports an Error, returns the exit status.
int run_headrace(const std::vector<std::string>& arguments);

// Writes all of `text` to standard output; Error (kFailed) when that fails.
void print_result(const std::string& text);

}  // namespace headrace::tools

#include "tools/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>

#include "storage/error.h"
#include "storage/text.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

constexpr const char* kVersion = "0.1.0";

std::string overview() {
  std::string text =
      "headrace trains networks larger than memory on one machine.\n\nUsage: headrace COMMAND ...\n\n";
  for (const Command& command : commands()) text += fmt::format("  {:<12}{}\n", command.name, command.help);
  return text + "\nheadrace COMMAND --help says more; headrace --version says which version this is.\n";
}

void dispatch(const std::vector<std::string>& arguments) {
  if (arguments.empty()) {
    throw Error(ErrorKind::kUsage, "no command was given", "see headrace --help");
  }
  const std::string& name = arguments[0];
  if (name == "--help" || name == "-h" || name == "help") return print_result(overview());
  if (name == "--version") return print_result(fmt::format("headrace {}\n", kVersion));
  std::vector<std::string> names;
  for (const Command& command : commands()) {
    names.push_back(command.name);
    if (command.name == name) return command.run({arguments.begin() + 1, arguments.end()});
  }
  throw Error(ErrorKind::kUsage,
              fmt::format("unknown {} '{}'; {}", name.starts_with('-') ? "option" : "command",
                          printable(name, 60), suggestion(name, names)),
              "see headrace --help");
}

int report(const std::string& what, std::string advice, int status) {
  std::fprintf(stderr, "headrace: error: %s\n", printable(what, 4000).c_str());
  if (!advice.empty()) {
    if (advice[0] >= 'A' && advice[0] <= 'Z')
      advice[0] = char(advice[0] - 'A' + 'a');  // it comes after a colon
    std::fprintf(stderr, "what to do: %s\n", printable(advice, 4000).c_str());
  }
  return status;
}

}  // namespace

const std::vector<Command>& commands() {
  static const std::vector<Command> list{
      {"train", "trains a model; creates the run, or resumes it", run_train},
      {"plan", "what a training would take, before it runs", run_plan},
      {"eval", "loss, perplexity or accuracy of a run on other data", run_eval},
      {"bench", "how fast a directory's storage is, and whether it suits training", run_bench},
      {"inspect", "what a run, checkpoint or safetensors file holds", run_inspect},
      {"checkpoint", "saves a stopped run's committed step, compressed", run_checkpoint},
      {"restore", "makes a run from a checkpoint", run_restore},
      {"quantize", "exports weights as 8-bit integers, and says what that costs", run_quantize},
  };
  return list;
}

int run_headrace(const std::vector<std::string>& arguments) {
  try {
    watch_for_stop();
    dispatch(arguments);
    return 0;
  } catch (const Error& error) {
    return report(error.what(), error.advice(), static_cast<int>(error.kind()));
  } catch (const std::bad_alloc&) {
    return report("no memory was left", "free some, or give a smaller --memory, --batch or --seq", 1);
  } catch (const std::exception& error) {
    return report(error.what(), "this was not expected; please report it", 1);
  }
}

void print_result(const std::string& text) {
  errno = 0;
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return;
  throw Error(ErrorKind::kFailed,
              fmt::format("cannot write to standard output: {}", system_text(errno == 0 ? EIO : errno)));
}

}  // namespace headrace::tools

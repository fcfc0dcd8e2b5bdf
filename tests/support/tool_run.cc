#include "tests/support/tool_run.h"

#include <sstream>
#include <utility>

#include <nlohmann/json.hpp>

namespace headrace::testing {

ToolRun::ToolRun(std::string binary, const std::string& config_json, size_t text_bytes)
    : binary_(std::move(binary)) {
  std::string text;
  for (uint64_t i = 0; text.size() < text_bytes; ++i)
    text += "verse " + std::to_string(i * 7919 % 1009) +
            (i % 3 ? ": and it was so.\n" : ": let there be light.\n");
  write_file(directory_ / "text", text);
  write_file(directory_ / "config.json", config_json);
}

std::vector<std::string> ToolRun::train_arguments(const std::string& name, uint64_t steps,
                                                  const std::vector<std::string>& more) const {
  std::vector<std::string> all{"train",  name,  "--model", "config.json",
                               "--data", data_, "--steps", std::to_string(steps)};
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

ProcessResult ToolRun::train(const std::string& name, uint64_t steps,
                             const std::vector<std::string>& more) const {
  return run(train_arguments(name, steps, more));
}

ProcessResult ToolRun::run(const std::vector<std::string>& arguments) const {
  return run_headrace(binary_, arguments, directory_.path());
}

std::string ToolRun::digest(const std::string& name) const { return run({"inspect", name, "--digest"}).out; }

std::vector<std::string> ToolRun::metrics(const std::string& name) const {
  std::istringstream file(read_file(path(name) + "/metrics.jsonl"));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    const auto full = nlohmann::ordered_json::parse(line);
    nlohmann::ordered_json exact;
    for (const char* key : {"step", "loss", "lr", "grad_norm", "tokens"}) exact[key] = full.at(key);
    lines.push_back(exact.dump());
  }
  return lines;
}

}  // namespace headrace::testing

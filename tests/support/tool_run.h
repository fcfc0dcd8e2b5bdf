// A small training run driven through the built program, for tests of what survives: its text, its options,
// and what must come out the same whatever happened in between.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tests/support/process.h"
#include "tests/support/temporary_directory.h"

namespace headrace::testing {

class ToolRun {
 public:
  // Writes a text of `text_bytes` and the model `config_json`; `binary` is the program.
  ToolRun(std::string binary, const std::string& config_json, size_t text_bytes);

  // Trains on this file or folder of the directory in place of the text.
  void use_data(std::string name) { data_ = std::move(name); }
  // Arguments that create or resume RUN `name`.
  std::vector<std::string> train_arguments(const std::string& name, uint64_t steps,
                                           const std::vector<std::string>& more = {}) const;
  ProcessResult train(const std::string& name, uint64_t steps,
                      const std::vector<std::string>& more = {}) const;
  ProcessResult run(const std::vector<std::string>& arguments) const;
  std::string digest(const std::string& name) const;
  // The lines of metrics.jsonl without what depends on time, memory or the cache's warmth.
  std::vector<std::string> metrics(const std::string& name) const;

  const std::string& directory() const { return directory_.path(); }
  std::string path(const std::string& name) const { return directory_ / name; }
  const std::string& binary() const { return binary_; }

 private:
  TemporaryDirectory directory_;
  std::string binary_, data_ = "text";
};

}  // namespace headrace::testing

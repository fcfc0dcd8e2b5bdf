#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "storage/block_io.h"
#include "storage/digest.h"
#include "storage/error.h"
#include "storage/store.h"
#include "storage/text.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/progress.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

struct Row {
  std::string name;
  std::vector<uint64_t> shape;
  uint64_t elements = 0, state_bytes = 0;
};

CommandSpec inspect_spec() {
  CommandSpec spec;
  spec.name = "inspect";
  spec.description = "Shows the tensors of a run, or its digest. The run must not be in use.";
  spec.positional = "RUN";
  spec.positional_help = "the directory of the run";
  spec.options = {
      {"digest", "", "one hexadecimal line that depends on the logical content alone", false, false,
       "Options"},
      {"shard-dir", "DIR", "where a shard of the run is now; may be repeated", true, false, "Options"},
      {"json", "", "one JSON object instead of text", false, false, "Options"},
      {"quiet", "", "no progress", false, false, "Options"},
  };
  return spec;
}

std::vector<Row> list(const storage::Layout& layout) {
  std::vector<Row> rows;
  for (const storage::TensorSpec& tensor : layout.tensors()) {
    uint64_t bytes = 0;
    for (const storage::Plane& plane : tensor.planes) bytes += plane.element_bytes;
    for (const storage::TensorPart& part : tensor.parts) {
      uint64_t elements = 1;
      for (const uint64_t length : part.shape) elements *= length;
      rows.push_back({part.name, part.shape, elements, elements * bytes});
    }
  }
  return rows;
}

std::string shape_text(const std::vector<uint64_t>& shape) {
  std::vector<std::string> lengths;
  lengths.reserve(shape.size());
  for (const uint64_t length : shape) lengths.push_back(std::to_string(length));
  return "[" + joined(lengths) + "]";
}

std::string listing(const storage::Store& store, const std::string& run_dir) {
  std::string text;
  size_t width = 0;
  uint64_t parameters = 0, bytes = 0;
  const std::vector<Row> rows = list(store.layout());
  for (const Row& row : rows) width = std::max(width, row.name.size());
  for (const Row& row : rows) {
    text += fmt::format("{:<{}}  {:<16}{:>12}\n", printable(row.name), width, shape_text(row.shape),
                        format_size(row.state_bytes));
    parameters += row.elements;
    bytes += row.state_bytes;
  }
  return fmt::format("{}: step {}, {} parameters ({}), {} of parameters and optimizer state\n",
                     printable(run_dir), store.step(), parameters,
                     format_count(static_cast<double>(parameters)), format_size(bytes)) +
         text;
}

std::string listing_json(const storage::Store& store, const std::string& run_dir) {
  nlohmann::ordered_json json;
  json["run"] = run_dir;
  json["step"] = store.step();
  json["tensors"] = nlohmann::ordered_json::array();
  for (const Row& row : list(store.layout())) {
    json["tensors"].push_back({{"name", row.name}, {"shape", row.shape}, {"state_bytes", row.state_bytes}});
  }
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace

void run_inspect(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(inspect_spec(), arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  bool digest = false, json = false, quiet = false;
  std::vector<std::string> shard_dirs;
  for (const GivenOption& option : parsed.options) {
    if (option.name == "digest") digest = true;
    if (option.name == "json") json = true;
    if (option.name == "quiet") quiet = true;
    if (option.name == "shard-dir") shard_dirs.push_back(option.text);
  }
  const std::string& run_dir = parsed.positional;
  if (!storage::Store::exists(run_dir)) {
    throw Error(ErrorKind::kUsage, fmt::format("{} holds no run", printable(run_dir)),
                "name the directory that headrace train made");
  }
  const auto io = storage::make_block_io({});
  const auto store = storage::Store::open(run_dir, shard_dirs, *io);
  Progress progress({json, quiet, terminal_style()}, 0, watch_for_stop());
  std::string result;
  if (digest) {
    result = storage::digest(*store, *io, [&](double fraction) {
      progress.working("reading", fraction);
      if (watch_for_stop() != 0) throw Error(ErrorKind::kFailed, "stopped before the digest was complete");
    });
    if (json) result = nlohmann::ordered_json({{"digest", result}, {"step", store->step()}}).dump();
    result += "\n";
  } else {
    result = json ? listing_json(*store, run_dir) : listing(*store, run_dir);
  }
  progress.clear();
  progress.finish(result);
}

}  // namespace headrace::tools

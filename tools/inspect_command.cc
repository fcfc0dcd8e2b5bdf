#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "engine/inspect/dequantized.h"
#include "storage/digest.h"
#include "storage/error.h"
#include "storage/store.h"
#include "storage/tensor_source.h"
#include "storage/tensor_values.h"
#include "storage/text.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/inspect_report.h"
#include "tools/loss_history.h"
#include "tools/progress.h"
#include "tools/signals.h"

namespace headrace::tools {
namespace {

using storage::TensorSource;

CommandSpec inspect_spec() {
  CommandSpec spec;
  spec.name = "inspect";
  spec.description =
      "Shows what a run, a checkpoint, a safetensors file or a folder of them holds. Listing reads headers "
      "only, also of a run that is being trained; what reads content needs the run not to be in use.";
  spec.positional = "PATH";
  spec.positional_help = "run, checkpoint, safetensors file or folder";
  spec.options = {
      {"tensors", "GLOB", "only tensors whose names match, as 'h.*.attn.*'; may be repeated", true, false,
       "Options"},
      {"stats", "", "minimum, maximum, mean, deviation, zeros, NaN, infinities, histogram", false, false,
       "What to show, instead of a list"},
      {"verify", "", "read everything: checksums, gaps, overlaps, missing bytes", false, false,
       "What to show, instead of a list"},
      {"diff", "OTHER", "how the values differ from those of another run, checkpoint or file", false, false,
       "What to show, instead of a list"},
      {"digest", "", "one hexadecimal line that depends on the logical content alone", false, false,
       "What to show, instead of a list"},
      {"loss", "", "the loss of every step of a run, as a plot", false, false,
       "What to show, instead of a list"},
      {"html", "FILE", "with --loss: write the plot as a page of HTML", false, false, "Options"},
      {"state", "", "with --stats: also of the optimizer's state", false, false, "Options"},
      {"shard-dir", "DIR", "where a shard of the run is now; may be repeated", true, false, "Options"},
      {"json", "", "one JSON object instead of text", false, false, "Options"},
      {"quiet", "", "no progress", false, false, "Options"},
  };
  return spec;
}

enum class Show { kList, kStatistics, kVerification, kDifference, kDigest, kLoss };

struct Request {
  std::string path, other, html;
  Show show = Show::kList;
  std::vector<std::string> patterns, shard_dirs;
  bool state = false, json = false, quiet = false;
};

Request request_of(const Arguments& parsed) {
  Request request;
  request.path = parsed.positional;
  std::string shown;
  const auto show = [&](Show what, const std::string& option) {
    if (!shown.empty()) {
      throw Error(ErrorKind::kUsage, fmt::format("--{} and --{} are two things to show", shown, option),
                  "ask for one at a time");
    }
    shown = option;
    request.show = what;
  };
  for (const GivenOption& option : parsed.options) {
    if (option.name == "tensors") request.patterns.push_back(option.text);
    if (option.name == "stats") show(Show::kStatistics, option.name);
    if (option.name == "verify") show(Show::kVerification, option.name);
    if (option.name == "diff") show(Show::kDifference, option.name);
    if (option.name == "diff") request.other = option.text;
    if (option.name == "digest") show(Show::kDigest, option.name);
    if (option.name == "loss") show(Show::kLoss, option.name);
    if (option.name == "html") request.html = option.text;
    if (option.name == "state") request.state = true;
    if (option.name == "shard-dir") request.shard_dirs.push_back(option.text);
    if (option.name == "json") request.json = true;
    if (option.name == "quiet") request.quiet = true;
  }
  if (request.show == Show::kDigest && !request.patterns.empty()) {
    throw Error(ErrorKind::kUsage, "a digest is of all tensors", "leave --tensors out");
  }
  if (request.show != Show::kLoss && !request.html.empty()) {
    throw Error(ErrorKind::kUsage, "--html is for the plot of --loss", "add --loss");
  }
  return request;
}

std::string statistics(TensorSource& source, const Request& request, const std::vector<size_t>& selected,
                       const std::function<void(double)>& done) {
  std::vector<TensorStatistics> all;
  for (size_t i = 0; i < selected.size(); i++) {
    const storage::SourceTensor& tensor = source.tensors()[selected[i]];
    for (const storage::ValueField& field : storage::value_fields(tensor)) {
      if (!field.name.empty() && !request.state) continue;
      all.push_back({tensor.name, field.name, storage::element_type_name(field.type),
                     inspect::statistics_of(source, selected[i], field), field.joined});
      done(static_cast<double>(i) / static_cast<double>(selected.size()));
    }
  }
  return request.json ? statistics_json(source.info(), all) : statistics_text(all, writes_utf8());
}

std::string difference(TensorSource& source, const Request& request,
                       const std::function<void(double)>& done) {
  std::error_code ignored;  // as when one is not there, which opening says
  if (std::filesystem::equivalent(request.path, request.other, ignored))
    throw Error(ErrorKind::kUsage,
                fmt::format("{} and {} are the same", printable(request.path), printable(request.other)),
                "name another to compare with");
  const auto other =
      inspect::dequantized(storage::open_source(request.other, {.use = storage::SourceUse::kRead}));
  const TensorFilter filter(request.patterns);
  const inspect::Comparison comparison = inspect::compare(
      source, *other, [&](const std::string& name) { return filter.matches(name); }, done);
  return request.json ? comparison_json(source.info(), other->info(), comparison)
                      : comparison_text(source.info(), other->info(), comparison);
}

std::string digest_text(TensorSource& source, const Request& request,
                        const std::function<void(double)>& done) {
  const std::string digest = storage::digest(source, done);
  if (!request.json) return digest + "\n";
  return nlohmann::ordered_json({{"digest", digest}, {"step", source.info().step.value_or(0)}}).dump() + "\n";
}

std::string loss(const Request& request) {
  if (!storage::Store::exists(request.path)) {
    throw Error(ErrorKind::kUsage, fmt::format("{} holds no run, and only runs have a history", request.path),
                "name the directory that headrace train made");
  }
  const std::vector<LossPoint> points = read_loss_history(request.path);
  if (!request.html.empty()) write_page(request.html, loss_page(request.path, points));
  if (request.json) return losses_json(request.path, points);
  const TerminalStyle style = terminal_style(STDOUT_FILENO);
  return plot_losses(points, {.width = style.width, .utf8 = writes_utf8(), .colour = style.colour});
}

}  // namespace

void run_inspect(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(inspect_spec(), arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  const Request request = request_of(parsed);
  if (request.show == Show::kLoss) return print_result(loss(request));
  const auto use = request.show == Show::kList           ? storage::SourceUse::kList
                   : request.show == Show::kVerification ? storage::SourceUse::kVerify
                                                         : storage::SourceUse::kRead;
  auto source = storage::open_source(request.path, {.use = use, .shard_dirs = request.shard_dirs});
  if (request.show == Show::kStatistics || request.show == Show::kDifference)
    source = inspect::dequantized(std::move(source));
  const std::vector<size_t> selected = TensorFilter(request.patterns).select(*source);
  Progress progress({request.json, request.quiet, terminal_style()}, 0, watch_for_stop());
  const auto done = [&](double fraction) {
    progress.working("reading", fraction);
    if (watch_for_stop() != 0) throw Error(ErrorKind::kFailed, "stopped before everything was read");
  };
  std::string result;
  Verification verification;
  switch (request.show) {
    case Show::kList:
      result = request.json ? listing_json(*source, selected) : listing(*source, selected);
      break;
    case Show::kStatistics:
      result = statistics(*source, request, selected, done);
      break;
    case Show::kVerification:
      verification = verify_source(*source, selected, done);
      result = request.json ? verification_json(source->info(), verification)
                            : verification_text(source->info(), verification);
      break;
    case Show::kDifference:
      result = difference(*source, request, done);
      break;
    case Show::kDigest:
      result = digest_text(*source, request, done);
      break;
    case Show::kLoss:
      break;
  }
  progress.clear();
  progress.finish(result);
  if (verification.faults.empty()) return;
  throw Error(ErrorKind::kCorrupt,
              fmt::format("{} is damaged: {} of {} tensors cannot be read as they were written", request.path,
                          verification.damaged, verification.tensors),
              source->info().kind == "run"
                  ? "restore it from a checkpoint or a copy, and check the drive"
                  : "take another copy of it, or an earlier one, and check the drive");
}

}  // namespace headrace::tools

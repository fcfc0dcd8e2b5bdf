#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "engine/inspect/dequantized.h"
#include "engine/math/quantize.h"
#include "engine/train/trainer.h"
#include "storage/error.h"
#include "storage/safetensors_writer.h"
#include "storage/tensor_source.h"
#include "storage/tensor_values.h"
#include "storage/text.h"
#include "tools/command_line.h"
#include "tools/commands.h"
#include "tools/eval_report.h"
#include "tools/memory_limit.h"
#include "tools/options.h"
#include "tools/progress.h"
#include "tools/signals.h"
#include "tools/weights_evaluation.h"

namespace headrace::tools {
namespace {

namespace fs = std::filesystem;
using storage::ElementType;
using storage::SourceTensor;

constexpr uint64_t kPieceBytes = uint64_t{2} << 20;  // of float32, read at once
constexpr uint64_t kLongestRow = uint64_t{1} << 26;  // elements

struct Request {
  TrainRequest train;  // memory, threads, data and so on
  std::string source, out;
  bool embeddings = false;
};

bool belongs_here(const std::string& name) {
  return name == "data" || name == "memory" || name == "threads" || name == "io" || name == "shard-dir" ||
         name == "json" || name == "quiet";
}

CommandSpec quantize_spec() {
  CommandSpec spec;
  spec.name = "quantize";
  spec.description =
      "Exports a network with the weights of its matrices as 8-bit integers, each row with a scale of its "
      "own, "
      "to a folder with a safetensors file; with --data, evaluates it before and after.";
  spec.positional = "PATH";
  spec.positional_help = "a run that is not in use, or a checkpoint";
  spec.second_positional = "OUT";
  spec.second_positional_help = "the folder to be made";
  spec.options.push_back({"embeddings", "", "quantize embeddings, too", false, false, "Options"});
  for (const TrainOption& option : train_options()) {
    if (!belongs_here(option.entry.name)) continue;
    const std::string help = option.entry.name == "data" ? "what to evaluate on" : option.entry.help;
    spec.options.push_back({option.entry.name, option.entry.metavar, help,
                            option.entry.type == train::OptionType::kTextList, false, "Options"});
  }
  return spec;
}

Request request_of(const Arguments& parsed) {
  Request request;
  request.source = parsed.positional;
  request.out = parsed.second_positional;
  while (request.out.size() > 1 && request.out.ends_with('/')) request.out.pop_back();
  std::vector<GivenOption> options;
  for (const GivenOption& option : parsed.options)
    if (option.name == "embeddings")
      request.embeddings = true;
    else
      options.push_back(option);
  apply_options(options, request.train);
  request.train.session.run_dir = request.source;
  if (request.train.session.memory_bytes == 0)
    request.train.session.memory_bytes = available_memory().bytes / 4 * 3;
  if (fs::exists(request.out)) {
    throw Error(ErrorKind::kUsage, fmt::format("{} is there already", printable(request.out)),
                "name a folder that does not exist");
  }
  return request;
}

// A tensor of the export.
struct Item {
  size_t source = 0;
  storage::ValueField field;
  bool quantized = false;
  size_t place = 0;  // in the file; the scales' is the next one
};

struct Result {
  uint64_t tensors = 0, quantized = 0, weights = 0;  // weights: quantized ones
  uint64_t file_bytes = 0, float_bytes = 0;          // as it is, and would be in float32
  double relative_error = 0;                         // |w - q scale| / |w| of these, in the 2-norm
};

class Export {
 public:
  Export(const Request& request, const Network& network, storage::TensorSource& source)
      : source_(source), folder_(request.out + ".unfinished") {
    const auto model = models::build_model(network.config, network.run);
    const storage::Layout layout = train::make_layout(*model, network.run);
    for (storage::TensorId id = 0; id < layout.tensors().size(); id++) {
      const storage::TensorSpec& spec = layout.tensor(id);
      if (spec.slots == 1 || model->is_state(id)) continue;  // the data's, or of a training
      const bool quantized = spec.columns > 1 && (request.embeddings || !model->is_embedding(id));
      for (const storage::TensorPart& part : spec.parts) add(part.name, quantized);
    }
    check_memory(request);
  }

  Result write(const Network& network, const std::function<void(double)>& done) {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);  // of a try that was cut short
    make_folder();
    try {
      write_config(network);
      storage::SafetensorsWriter writer(
          folder_ + "/model.safetensors", tensors_,
          {{"format", "pt"},
           {"headrace.model", kept_json(network.run, network.config)},
           {"headrace.quantization",
            "int8, symmetric, a float32 scale a row: NAME is about NAME * NAME.scale"}});
      uint64_t elements = 1, finished = 0;
      for (const Item& item : items_) elements += source_.tensors()[item.source].elements;
      for (const Item& item : items_) {
        write_tensor(item, writer, [&](uint64_t more) {
          finished += more;
          done(double(finished) / double(elements));
        });
      }
      writer.finish();
      result_.file_bytes = writer.file_bytes();
      publish();
    } catch (...) {
      fs::remove_all(folder_, ignored);
      throw;
    }
    if (squares_ > 0) result_.relative_error = std::sqrt(error_squares_ / squares_);
    return result_;
  }

 private:
  void add(const std::string& name, bool quantized) {
    const auto tensors = source_.tensors();
    const auto found = std::find_if(tensors.begin(), tensors.end(),
                                    [&](const SourceTensor& tensor) { return tensor.name == name; });
    const std::vector<storage::ValueField> fields =
        found == tensors.end() ? std::vector<storage::ValueField>() : storage::value_fields(*found);
    if (fields.empty() || !fields[0].name.empty() || fields[0].type != ElementType::kF32) {
      throw Error(
          ErrorKind::kUsage,
          fmt::format("{} holds no float32 weights '{}'", printable(source_.info().path), printable(name)),
          "name a run or a checkpoint");
    }
    items_.push_back({size_t(found - tensors.begin()), fields[0], quantized, tensors_.size()});
    tensors_.push_back({name, quantized ? ElementType::kI8 : ElementType::kF32, found->shape});
    result_.tensors++;
    result_.float_bytes += found->elements * sizeof(float);
    if (!quantized) return;
    tensors_.push_back({name + inspect::kScaleSuffix, ElementType::kF32, {found->shape[0]}});
    result_.quantized++;
    result_.weights += found->elements;
  }

  // Rows of a tensor that are read at once.
  static uint64_t piece_rows(uint64_t columns) {
    return std::max<uint64_t>(kPieceBytes / sizeof(float) / columns, 1);
  }

  void check_memory(const Request& request) const {
    uint64_t longest = 1;
    for (const Item& item : items_)
      if (item.quantized) longest = std::max(longest, source_.tensors()[item.source].shape[1]);
    // A piece as it is read, in halves, as float32, as integers, and the same again.
    const uint64_t piece = std::max<uint64_t>(longest * sizeof(float), kPieceBytes);
    const uint64_t least = (uint64_t{36} << 20) + 4 * piece;
    if (longest <= kLongestRow && request.train.session.memory_bytes >= least) return;
    throw Error(ErrorKind::kRefused,
                fmt::format("a memory budget of {} is too small: quantizing rows of {} weights needs {}",
                            exact_size(request.train.session.memory_bytes), longest, exact_size(least)),
                fmt::format("give --memory {} or more", exact_size(least)));
  }

  void make_folder() const {
    std::error_code error;
    if (fs::create_directory(folder_, error)) return;
    throw Error(ErrorKind::kUsage,
                fmt::format("cannot make the folder {}: {}", printable(folder_), error.message()),
                "name a place that you may write to");
  }

  void write_config(const Network& network) const {
    const std::string text = nlohmann::ordered_json::parse(network.config.json).dump(2) + "\n";
    const auto file = storage::File::open(folder_ + "/config.json", storage::OpenMode::kCreate);
    file.pwrite_all(std::as_bytes(std::span(text)), 0);
    file.sync();
  }

  void publish() const {
    storage::sync_directory(folder_);
    const std::string out = folder_.substr(0, folder_.rfind('.'));
    std::error_code error;
    fs::rename(folder_, out, error);
    if (error)
      throw Error(ErrorKind::kFailed, fmt::format("cannot rename {} to {}: {}", printable(folder_),
                                                  printable(out), error.message()));
    storage::sync_directory(fs::absolute(out).parent_path().string());
  }

  void write_tensor(const Item& item, storage::SafetensorsWriter& writer,
                    const std::function<void(uint64_t)>& done) {
    const SourceTensor& tensor = source_.tensors()[item.source];
    const uint64_t columns = item.quantized ? tensor.shape[1] : 1, rows = tensor.elements / columns;
    for (uint64_t row = 0; row < rows; row += piece_rows(columns)) {
      const uint64_t count = std::min(piece_rows(columns), rows - row);
      values_.resize(count * columns);
      storage::read_values(source_, item.source, item.field, row * columns,
                           std::as_writable_bytes(std::span(values_)), scratch_);
      for (float& value : values_) value += 0.0F;  // a pruned weight is a plain zero elsewhere
      if (item.quantized)
        write_rows(item, row, columns, writer);
      else
        writer.write(item.place, row * sizeof(float), std::as_bytes(std::span(values_)));
      done(values_.size());
    }
  }

  void write_rows(const Item& item, uint64_t first_row, uint64_t columns,
                  storage::SafetensorsWriter& writer) {
    for (size_t i = 0; i < values_.size(); i++) {
      if (std::isfinite(values_[i])) continue;
      throw Error(ErrorKind::kFailed,
                  fmt::format("tensor '{}' has the weight {} in row {}, which no integer stands for",
                              source_.tensors()[item.source].name, values_[i], first_row + i / columns),
                  "see headrace inspect --stats; take an earlier checkpoint");
    }
    const auto rows = int64_t(values_.size() / columns);
    q_.resize(values_.size());
    scales_.resize(size_t(rows));
    const math::Matrix weight{values_.data(), rows, int64_t(columns), int64_t(columns)};
    math::quantize_rows(weight, q_.data(), scales_.data());
    for (size_t i = 0; i < values_.size(); i++) {
      const double value = values_[i], apart = value - double(q_[i]) * double(scales_[i / columns]);
      squares_ += value * value;
      error_squares_ += apart * apart;
    }
    writer.write(item.place, first_row * columns, std::as_bytes(std::span(q_)));
    writer.write(item.place + 1, first_row * sizeof(float), std::as_bytes(std::span(scales_)));
  }

  storage::TensorSource& source_;
  std::string folder_;
  std::vector<Item> items_;
  std::vector<storage::NewTensor> tensors_;
  Result result_;
  double squares_ = 0, error_squares_ = 0;
  std::vector<float> values_, scales_;
  std::vector<int8_t> q_;
  std::vector<std::byte> scratch_;
};

std::string result_text(const Request& request, const Result& r,
                        const std::optional<train::EvalSummary>& before,
                        const std::optional<train::EvalSummary>& after) {
  if (request.train.json) {
    nlohmann::ordered_json json;
    json["path"] = request.out;
    json["tensors"] = r.tensors;
    json["quantized_tensors"] = r.quantized;
    json["quantized_weights"] = r.weights;
    json["file_bytes"] = r.file_bytes;
    json["float32_bytes"] = r.float_bytes;
    json["relative_error"] = r.relative_error;
    if (before) add_eval_fields(*before, json["before"]);
    if (after) add_eval_fields(*after, json["after"]);
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  std::string text = fmt::format(
      "{}: {} of {} tensors, {} weights, in int8 with a scale a row; {}, {:.1f}% of float32\n"
      "relative error of these weights {:.3g}\n",
      printable(request.out), r.quantized, r.tensors, r.weights, format_size(r.file_bytes),
      100 * double(r.file_bytes) / double(std::max<uint64_t>(r.float_bytes, 1)), r.relative_error);
  if (before)
    text += fmt::format("before: {} over {} {}\n", eval_line(*before), before->tokens, before->rows);
  if (after) text += fmt::format("after:  {} over {} {}\n", eval_line(*after), after->tokens, after->rows);
  return text;
}

}  // namespace

void run_quantize(const std::vector<std::string>& arguments) {
  const Arguments parsed = parse_arguments(quantize_spec(), arguments);
  if (!parsed.help.empty()) return print_result(parsed.help);
  Request request = request_of(parsed);
  const std::string data = request.train.run.data;
  std::atomic<int>& stop = watch_for_stop();
  Progress progress({request.train.json, request.train.quiet, terminal_style()}, 0, stop);
  const Network network = open_network(request.source);
  const auto evaluate = [&](const Network& of, const std::vector<std::string>& shard_dirs) {
    train::SessionOptions session = request.train.session;
    session.run_dir = of.path;
    session.shard_dirs = shard_dirs;
    return evaluate_network(of, session, data, progress, stop);
  };
  std::optional<train::EvalSummary> before, after;
  if (!data.empty()) before = evaluate(network, request.train.session.shard_dirs);
  Result result;
  {
    const auto source = storage::open_source(
        request.source, {.use = storage::SourceUse::kRead, .shard_dirs = request.train.session.shard_dirs});
    train::with_session_threads(request.train.session, [&] {
      result = Export(request, network, *source).write(network, [&](double fraction) {
        progress.working("quantizing", fraction);
        if (stop != 0)
          throw Error(ErrorKind::kFailed, "stopped before the export was complete", "start it again");
      });
    });
  }
  if (!data.empty()) after = evaluate(open_network(request.out), {});
  progress.clear();
  progress.finish(result_text(request, result, before, after));
}

}  // namespace headrace::tools

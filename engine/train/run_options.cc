#include "engine/train/run_options.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "engine/train/optimizer.h"
#include "engine/train/pruning.h"
#include "storage/error.h"
#include "storage/json.h"

namespace headrace::train {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr uint64_t kMostSteps = 1ULL << 40;
constexpr uint64_t kMostUncommittedSteps = 10000;  // their lines are kept in memory and commit together
constexpr uint64_t kLongestSequence = 1ULL << 20;
constexpr uint64_t kLargestBatch = 1ULL << 20;

std::vector<std::pair<std::string, std::string>> optimizer_names() {
  std::vector<std::pair<std::string, std::string>> names;
  for (const OptimizerFamily& family : optimizer_families()) names.emplace_back(family.name, family.name);
  return names;
}

std::vector<RunOption> make_table() {
  using R = RunOptions;
  return {
      text_option("model", &R::model, "MODEL",
                  "a name (gpt2, gpt2-medium, ...), a config.json, or a folder with one"),
      text_option("data", &R::data, "FILE", "the training text"),
      text_option("data-fingerprint", &R::data_fingerprint, "TEXT",
                  "what the data must be; filled in at creation"),
      choice_option<R, std::string>("tokenizer", &R::tokenizer, {{"bytes", "bytes"}},
                                    "how text becomes tokens"),
      count_option("batch", &R::batch, 1, kLargestBatch, "sequences a step"),
      count_option("seq", &R::seq, 1, kLongestSequence, "tokens of a sequence"),
      count_option("micro-batch", &R::micro_batch, 0, kLargestBatch,
                   "sequences computed at once; 0: chosen to fit. Does not change the result"),
      choice_option<R, std::string>("optimizer", &R::optimizer, optimizer_names(), "the optimizer"),
      number_option("lr", &R::lr, {0, 1e6, false, true}, "learning rate after the warm-up"),
      number_option("min-lr", &R::min_lr, {0, 1e6}, "learning rate at the end of the schedule"),
      count_option("warmup", &R::warmup, 0, kMostSteps, "steps of linear warm-up"),
      choice_option<R, LrSchedule>("schedule", &R::schedule,
                                   {{"cosine", LrSchedule::kCosine},
                                    {"linear", LrSchedule::kLinear},
                                    {"constant", LrSchedule::kConstant}},
                                   "how the learning rate falls after the warm-up"),
      count_option("schedule-steps", &R::schedule_steps, 0, kMostSteps,
                   "the step at which the schedule ends; 0: --steps of the run's creation"),
      number_option("weight-decay", &R::weight_decay, {0, 1e6},
                    "decoupled weight decay of matrices (adamw, lion)"),
      number_option("beta1", &R::beta1, {0, 1, true, false}, "decay of the first moment"),
      number_option("beta2", &R::beta2, {0, 1, true, false}, "decay of the second moment"),
      number_option("eps", &R::eps, {0, 1, false, true}, "added to the root of the second moment"),
      number_option("momentum", &R::momentum, {0, 1, true, false}, "of sgd; 0: none, and no state"),
      switch_option("nesterov", &R::nesterov, "Nesterov's momentum"),
      number_option("l1", &R::l1, {0, 1e6}, "penalty: so much times the sum of |w| of matrices"),
      number_option("l2", &R::l2, {0, 1e6}, "penalty: so much times the sum of w^2 of matrices"),
      number_option("prune-sparsity", &R::prune_sparsity, {0, 1, true, false},
                    "pruning: the share of the weights of each matrix that is zero in the end; 0: none"),
      count_option("prune-begin", &R::prune_begin, 1, kMostSteps, "the first step that prunes"),
      count_option("prune-end", &R::prune_end, 0, kMostSteps,
                   "the last step that prunes; 0: --prune-begin, and all is pruned at once"),
      count_option("prune-every", &R::prune_every, 1, kMostSteps, "steps from one pruning to the next"),
      number_option("prune-initial", &R::prune_initial, {0, 1, true, false},
                    "the share that is pruned at --prune-begin, with a later --prune-end"),
      switch_option("prune-embeddings", &R::prune_embeddings, "prune embeddings, too"),
      number_option("clip", &R::clip, {0, kInfinity}, "largest global norm of the gradient; 0: no clipping"),
      choice_option<R, WeightPrecision>(
          "weights", &R::weights, {{"fp32", WeightPrecision::kFloat32}, {"bf16", WeightPrecision::kBfloat16}},
          "the precision that products see; the weights themselves are exact"),
      count_option("seed", &R::seed, 0, std::numeric_limits<uint64_t>::max() >> 1,
                   "of the initial weights and the order of the data"),
      count_option("commit-every", &R::commit_every, 1, kMostUncommittedSteps,
                   "steps from commit to commit: a kill loses at most so many. Does not change the result"),
      size_option("block-size", &R::block_bytes, 4096, 1ULL << 30,
                  "aimed-at size of a record on disk. Does not change the result"),
      text_option("hidden", &R::hidden, "N,N,...", "widths of the hidden layers"),
      choice_option<R, std::string>(
          "activation", &R::activation,
          {{"relu", "relu"}, {"tanh", "tanh"}, {"sigmoid", "sigmoid"}, {"gelu", "gelu"}},
          "between the layers"),
      text_option("norm", &R::norm, "none|layer|batch", "of hidden layers, before the activation"),
      number_option("dropout", &R::dropout, {0, kMostDropout},
                    "share of a hidden layer's outputs that is dropped while training"),
      choice_option<R, std::string>("loss", &R::loss,
                                    {{"cross_entropy", "cross_entropy"}, {"mse", "mse"}, {"bce", "bce"}},
                                    "of classes, of values, or of shares from 0 to 1"),
      count_option("target-columns", &R::target_columns, 1, 1 << 20,
                   "how many of the last columns of a CSV are targets"),
  };
}

std::string toml_value(const RunOption& option, const std::string& text) {
  if (option.type == OptionType::kCount || option.type == OptionType::kNumber ||
      option.type == OptionType::kSwitch)
    return text;
  std::string escaped;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      escaped += '\\';
      escaped += c;
    } else if (byte < 0x20 || byte == 0x7f) {
      escaped += fmt::format("\\u{:04x}", byte);
    } else {
      escaped += c;
    }
  }
  return '"' + escaped + '"';
}

class File {
 public:
  File(std::string path, int flags) : path_(std::move(path)) {
    descriptor_ = ::open(path_.c_str(), flags | O_CLOEXEC, 0644);
    if (descriptor_ < 0) fail("open");
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() { ::close(descriptor_); }

  void write(std::string_view text) {
    while (!text.empty()) {
      const ssize_t written = ::write(descriptor_, text.data(), text.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail("write");
      text.remove_prefix(static_cast<size_t>(written));
    }
  }
  void sync() {
    if (::fsync(descriptor_) != 0) fail("sync");
  }

 private:
  [[noreturn]] void fail(const char* doing) {
    throw Error(ErrorKind::kFailed, fmt::format("cannot {} {}: {}", doing, path_, system_text(errno)),
                "check that the directory is writable and its drive not full");
  }

  std::string path_;
  int descriptor_ = -1;
};

}  // namespace

std::span<const RunOption> run_option_table() {
  static const std::vector<RunOption> table = make_table();
  return table;
}

void require_data(const RunOptions& options) {
  if (!options.data.empty()) return;
  throw Error(ErrorKind::kUsage, "no training data was named", "name a text file with --data FILE");
}

void check_run_options(const RunOptions& options) {
  if (options.min_lr > options.lr && options.schedule != LrSchedule::kConstant) {
    throw Error(
        ErrorKind::kUsage,
        fmt::format("--min-lr {} is above --lr {}", number_text(options.min_lr), number_text(options.lr)),
        "give a --min-lr of at most --lr");
  }
  check_optimizer_options(options);
  check_pruning_options(options);
  if (options.micro_batch > options.batch) {
    throw Error(ErrorKind::kUsage,
                fmt::format("--micro-batch {} is above --batch {}", options.micro_batch, options.batch),
                "give a --micro-batch of at most --batch, or leave it out");
  }
}

std::string run_options_toml(const RunOptions& options) {
  std::string text =
      "# The configuration of this run, fixed when it was created. Written by headrace; do not edit.\n";
  for (const RunOption& option : run_option_table()) {
    const std::string value = option.get(options);
    if (value.empty()) continue;
    text += fmt::format("{} = {}\n", option.name, toml_value(option, value));
  }
  return text;
}

std::string run_options_json(const RunOptions& options) {
  nlohmann::ordered_json json;
  for (const RunOption& option : run_option_table()) json[option.name] = option.get(options);
  return json.dump();  // every text was checked to be UTF-8 when it was set
}

RunOptions run_options_from_json(const std::string& text) {
  const auto json = parse_json<nlohmann::json>(text);
  auto damaged = [](const std::string& why) {
    return Error(ErrorKind::kCorrupt, fmt::format("the options kept in the run cannot be read: {}", why),
                 "restore the run from a copy");
  };
  if (!json.is_object()) throw damaged("not a JSON object");
  RunOptions options;
  for (const RunOption& option : run_option_table()) {
    const auto found = json.find(option.name);
    if (found == json.end()) continue;  // from before there was this option: it is what it was then
    if (!found->is_string()) throw damaged(fmt::format("no text '{}'", option.name));
    const auto value = found->get<std::string>();
    if (value.empty()) continue;  // not said
    const std::string problem = option.set(options, value);
    if (!problem.empty()) throw damaged(fmt::format("{}: {}", option.name, problem));
  }
  for (const auto& item : json.items()) {
    const bool known = std::any_of(run_option_table().begin(), run_option_table().end(),
                                   [&](const RunOption& option) { return option.name == item.key(); });
    if (!known)
      throw damaged(fmt::format("'{}' is no option that this version knows", printable(item.key(), 60)));
  }
  return options;
}

std::string run_config_path(const std::string& run_dir) { return run_dir + "/config.toml"; }

void write_run_config(const std::string& run_dir, const RunOptions& options) {
  const std::string path = run_config_path(run_dir);
  const std::string fresh = path + ".new";
  {
    File file(fresh, O_WRONLY | O_CREAT | O_TRUNC);
    file.write(run_options_toml(options));
    file.sync();
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) {
    throw Error(ErrorKind::kFailed,
                fmt::format("cannot rename {} to {}: {}", fresh, path, system_text(errno)));
  }
  File(run_dir, O_RDONLY | O_DIRECTORY).sync();  // the name itself
}

}  // namespace headrace::train

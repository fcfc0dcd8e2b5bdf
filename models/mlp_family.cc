#include "models/mlp_family.h"

#include <nlohmann/json.hpp>

#include "engine/train/table_data.h"
#include "models/mlp.h"
#include "models/mlp_config.h"

namespace headrace::models {
namespace {

// A text as the table has it: rows of a unit, over which sums over rows start anew. A power of two that
// divides the batches that people take, large enough for the products.
constexpr const char* kUnitRows = "64";

Json named(const std::string& name) {
  std::vector<std::string> notes;
  return complete_mlp(Json{{"model_type", name}}, name, notes);
}

std::unique_ptr<train::DataSet> open_table(const Json& config, const DataRequest& request) {
  const train::TargetKind targets = mlp_targets(config, request.run);
  const bool classes = targets == train::TargetKind::kClasses || targets == train::TargetKind::kAny;
  return std::make_unique<train::TableData>(
      train::TableOptions{.path = request.path,
                          .scratch_folder = request.scratch_folder,
                          .batch = request.run.batch,
                          .unit = request.run.seq,
                          .seed = request.run.seed,
                          .training = request.training,
                          .targets = targets,
                          .target_columns = request.run.target_columns,
                          .classes = classes ? config.value("outputs", uint64_t{0}) : 0});
}

std::unique_ptr<train::Model> build_mlp(const Json& config, const train::RunOptions&) {
  return make_mlp(mlp_config(config));
}

ModelFamily family(const std::string& name, std::string help, std::vector<std::string> options) {
  return {.type = name,
          .names = {name},
          .help = std::move(help),
          .options = std::move(options),
          .defaults = {{"seq", kUnitRows},
                       {"batch", "128"},
                       {"lr", "0.001"},
                       {"beta2", "0.999"},
                       {"weight-decay", "0.01"},
                       {"clip", "0"}},
          .by_name = named,
          .complete = complete_mlp,
          .settle = settle_mlp,
          .open = open_table,
          .build = build_mlp};
}

}  // namespace

ModelFamily mlp_family() {
  return family("mlp", "multi-layer perceptrons over tables of numbers and images",
                {"hidden", "activation", "norm", "dropout", "loss", "target-columns"});
}

ModelFamily softmax_regression_family() {
  return family("softmax-regression", "one linear layer and a softmax, over tables of numbers and images",
                {"target-columns"});
}

}  // namespace headrace::models

#include "models/recurrent_model.h"

#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/math/random.h"
#include "engine/train/text_data.h"
#include "models/embedding.h"
#include "models/recurrent_layer.h"

namespace headrace::models {

namespace {

// Tensor numbers, in the order of the table.
constexpr storage::TensorId kTokens = 0, kFirstLayer = 1;
constexpr uint32_t kLayerTensors = 4;

storage::TensorSpec matrix_spec(const std::string& name, uint64_t rows, uint64_t columns) {
  return {.name = name,
          .rows = rows,
          .columns = columns,
          .planes = {},
          .parts = {{.name = name, .shape = {rows, columns}, .first_element = 0}}};
}

void add_part(storage::TensorSpec& bundle, const std::string& name, std::vector<uint64_t> shape) {
  const uint64_t elements = std::accumulate(shape.begin(), shape.end(), uint64_t{1}, std::multiplies<>());
  bundle.parts.push_back({.name = name, .shape = std::move(shape), .first_element = bundle.rows});
  bundle.rows += elements;
}

std::vector<storage::TensorSpec> recurrent_tensors(const RecurrentConfig& config, uint64_t lanes) {
  const RecurrentCell& cell = recurrent_cell(config.cell);
  const uint64_t n = config.hidden_size, gates = uint64_t(cell.gates) * n;
  std::vector<storage::TensorSpec> specs{
      matrix_spec("encoder.weight", config.vocab_size, config.embedding_size)};
  for (uint64_t l = 0; l < config.num_layers; l++) {
    const auto named = [&](const char* name) { return fmt::format("rnn.{}_l{}", name, l); };
    specs.push_back(matrix_spec(named("weight_ih"), gates, l == 0 ? config.embedding_size : n));
    specs.push_back(matrix_spec(named("weight_hh"), gates, n));
    storage::TensorSpec biases{.name = named("biases"), .columns = 1, .planes = {}, .parts = {}};
    add_part(biases, named("bias_ih"), {gates});
    add_part(biases, named("bias_hh"), {gates});
    specs.push_back(std::move(biases));
    storage::TensorSpec state{.name = fmt::format("state_l{}", l), .columns = 1, .planes = {}, .parts = {}};
    add_part(state, fmt::format("state.h_l{}", l), {lanes, n});
    if (cell.has_cell_state) add_part(state, fmt::format("state.c_l{}", l), {lanes, n});
    specs.push_back(std::move(state));
  }
  specs.push_back(matrix_spec("decoder.weight", config.vocab_size, n));
  storage::TensorSpec bias{.name = "decoder.biases", .columns = 1, .planes = {}, .parts = {}};
  add_part(bias, "decoder.bias", {config.vocab_size});
  specs.push_back(std::move(bias));
  return specs;
}

class RecurrentModel final : public train::Model {
 public:
  RecurrentModel(const RecurrentConfig& config, uint64_t lanes, LogitsObserver observer)
      : config_(config), specs_(recurrent_tensors(config, lanes)) {
    storage::TensorId tensor = kFirstLayer;
    for (uint64_t l = 0; l < config.num_layers; l++, tensor += kLayerTensors)
      layers_.emplace_back(recurrent_cell(config.cell),
                           RecurrentParameters{.weight_ih = parameter(tensor),
                                               .weight_hh = parameter(tensor + 1),
                                               .biases = parameter(tensor + 2),
                                               .state = parameter(tensor + 3)});
    head_.emplace(parameter(tensor), std::move(observer), parameter(tensor + 1));
  }

  std::vector<storage::TensorSpec> tensors() const override { return specs_; }
  void bind(const storage::Layout& layout) override { embedding_.emplace(layout, parameter(kTokens)); }
  void draw(uint64_t seed, uint64_t samples, uint64_t seq, train::BatchData& batch) const override {
    batch = train::draw_tokens(seed, samples, seq, config_.vocab_size);
  }
  bool recomputes() const override { return true; }
  bool loops_over_time() const override { return true; }
  train::Task task() const override { return train::Task::kNextToken; }
  bool decays(storage::TensorId tensor) const override { return specs_[tensor].columns > 1; }
  bool is_embedding(storage::TensorId tensor) const override { return tensor == kTokens; }
  bool is_state(storage::TensorId tensor) const override { return specs_[tensor].name.starts_with("state_"); }
  double loss() const override { return loss_; }

  void initialise(storage::TensorId tensor, uint64_t first_row, uint64_t seed,
                  std::span<float> values) const override {
    const uint64_t first = first_row * specs_[tensor].columns;
    if (is_state(tensor)) {
      std::fill(values.begin(), values.end(), 0.0F);
    } else if (tensor == kTokens) {
      math::fill_normal(seed, tensor, first, int64_t(values.size()), 0, 1, values.data());
    } else {
      // A layer's weights and the head have the hidden size as their measure; biases too.
      const auto range = float(1 / std::sqrt(double(config_.hidden_size)));
      math::fill_uniform(seed, tensor, first, int64_t(values.size()), range, values.data());
    }
  }

  void evaluate(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    const train::MicroBatches parts(batch, policy);
    forward(context, parts, false);
    context.finish_updates();
    forget();
  }

  void train(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    const train::MicroBatches parts(batch, policy);
    forward(context, parts, true);
    context.finish_updates();
    backward(context, parts, policy);
    forget();
  }

 private:
  stream::Parameter parameter(storage::TensorId tensor) const {
    return {
        .tensor = tensor, .rows = int64_t(specs_[tensor].rows), .columns = int64_t(specs_[tensor].columns)};
  }

  void forward(Context& context, const train::MicroBatches& parts, bool training) {
    const std::vector<train::Span> spans = parts.spans();
    for (const train::Span span : spans) x_.push_back(embedding_->forward(context, parts, span));
    for (const RecurrentLayer& layer : layers_) {
      kept_.emplace_back();
      for (size_t s = 0; s < spans.size(); s++) {
        RecurrentKept kept = layer.forward(context, parts, spans[s], x_[s], training);
        x_[s] = kept.y;
        if (training) kept_.back().push_back(std::move(kept));
      }
    }
    loss_sums_.assign(parts.sequences(), 0);
    for (size_t s = 0; s < spans.size(); s++)
      heads_.push_back(head_->forward(context, parts, spans[s], x_[s], loss_sums_));
    loss_ = std::accumulate(loss_sums_.begin(), loss_sums_.end(), 0.0) / double(parts.total_tokens());
  }

  void backward(Context& context, const train::MicroBatches& parts, const train::ExecutionPolicy& policy) {
    const std::vector<train::Span> spans = parts.spans();
    std::vector<std::vector<Tensor>> dx;
    for (size_t s = 0; s < spans.size(); s++)
      dx.push_back(head_->backward(context, parts, spans[s], x_[s], heads_[s], policy.recompute_logits));
    for (size_t l = layers_.size(); l-- > 0;)
      for (size_t s = 0; s < spans.size(); s++)
        dx[s] = layers_[l].backward(context, parts, spans[s], kept_[l][s], policy.recompute_layers, dx[s]);
    for (size_t s = 0; s < spans.size(); s++) embedding_->backward(context, parts, spans[s], dx[s]);
  }

  void forget() {
    x_.clear();
    kept_.clear();
    heads_.clear();
  }

  RecurrentConfig config_;
  std::vector<storage::TensorSpec> specs_;
  std::optional<Embedding> embedding_;
  std::vector<RecurrentLayer> layers_;
  std::optional<CrossEntropyHead> head_;

  // Of the step under way, by span.
  std::vector<std::vector<Tensor>> x_;  // the stream through the layers; in the end the head's input
  std::vector<std::vector<RecurrentKept>> kept_;  // [layer][span]
  std::vector<CrossEntropyHead::Saved> heads_;
  std::vector<double> loss_sums_;
  double loss_ = 0;
};

}  // namespace

std::unique_ptr<train::Model> make_recurrent(const RecurrentConfig& config, uint64_t lanes,
                                             LogitsObserver observer) {
  return std::make_unique<RecurrentModel>(config, lanes, std::move(observer));
}

}  // namespace headrace::models

#include "models/mlp.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/math/random.h"
#include "models/cross_entropy_head.h"
#include "models/dense_loss.h"
#include "models/dropout.h"

namespace headrace::models {
namespace {

constexpr uint64_t kMostConfusedClasses = 256;  // a confusion matrix of more is not kept

// Tensors of layer l: the weight, then the bundle of its vectors; behind those of all layers, the states of
// the norms.
constexpr storage::TensorId weight_of(size_t layer) { return storage::TensorId(2 * layer); }
constexpr storage::TensorId vectors_of(size_t layer) { return storage::TensorId(2 * layer + 1); }

void add_part(storage::TensorSpec& bundle, const std::string& name, uint64_t elements) {
  bundle.parts.push_back({.name = name, .shape = {elements}, .first_element = bundle.rows});
  bundle.rows += elements;
}

std::vector<storage::TensorSpec> mlp_tensors(const MlpConfig& config) {
  std::vector<storage::TensorSpec> specs, states;
  std::vector<uint64_t> widths{config.features};
  widths.insert(widths.end(), config.hidden.begin(), config.hidden.end());
  widths.push_back(config.outputs);
  for (size_t l = 0; l + 1 < widths.size(); l++) {
    const std::string name = fmt::format("layers.{}.", l);
    const uint64_t in = widths[l], out = widths[l + 1];
    specs.push_back({.name = name + "weight",
                     .rows = out,
                     .columns = in,
                     .planes = {},
                     .parts = {{.name = name + "weight", .shape = {out, in}, .first_element = 0}}});
    storage::TensorSpec vectors{.name = name + "vectors", .columns = 1, .planes = {}, .parts = {}};
    const NormKind* norm = l < config.hidden.size() ? config.norm : nullptr;
    if (norm == nullptr || norm->layer_has_bias) add_part(vectors, name + "bias", out);
    if (norm != nullptr) {
      const std::string of_norm = fmt::format("norms.{}.", l);
      add_part(vectors, of_norm + "weight", out);
      add_part(vectors, of_norm + "bias", out);
      storage::TensorSpec state{.name = of_norm + "state", .columns = 1, .planes = {}, .parts = {}};
      for (const auto& [part, first_value] : norm->state) add_part(state, of_norm + part, out);
      if (!norm->state.empty()) states.push_back(std::move(state));
    }
    specs.push_back(std::move(vectors));
  }
  specs.insert(specs.end(), states.begin(), states.end());
  return specs;
}

class Mlp : public train::Model {
 public:
  Mlp(const MlpConfig& config, LogitsObserver observer)
      : config_(config), observer_(std::move(observer)), specs_(mlp_tensors(config)) {
    for (size_t l = 0; l < config.hidden.size(); l++) {
      layers_.emplace_back(parameter(weight_of(l)), has_bias(l) ? 0 : -1);
      dropouts_.emplace_back(config.dropout, l);
      if (config.norm != nullptr) norms_.push_back(config.norm->make(place_of_norm(l)));
    }
    const stream::Parameter last = parameter(weight_of(layers_.size()));
    if (config.loss == Loss::kCrossEntropy) {
      head_.emplace(
          last,
          [this](size_t micro_batch, int64_t first, math::ConstMatrix logits) {
            see_logits(micro_batch, first, logits);
          },
          parameter(vectors_of(layers_.size())));
    } else {
      last_.emplace(last, 0);
      loss_of_values_.emplace(config.loss == Loss::kSquaredError ? DenseLossKind::kSquaredError
                                                                 : DenseLossKind::kBinaryCrossEntropy);
    }
  }

  std::vector<storage::TensorSpec> tensors() const override { return specs_; }
  void bind(const storage::Layout&) override {}
  bool decays(storage::TensorId tensor) const override { return tensor % 2 == 0 && !is_state(tensor); }
  bool is_state(storage::TensorId tensor) const override { return tensor >= first_state(); }
  double loss() const override { return loss_; }
  train::Metrics metrics() const override { return metrics_; }

  train::Task task() const override {
    switch (config_.loss) {
      case Loss::kCrossEntropy:
        return train::Task::kClassification;
      case Loss::kSquaredError:
        return train::Task::kRegression;
      case Loss::kBinaryCrossEntropy:
        break;
    }
    return train::Task::kBinary;
  }

  void draw(uint64_t seed, uint64_t samples, uint64_t seq, train::BatchData& batch) const override {
    const bool classes = config_.loss == Loss::kCrossEntropy;
    batch = train::draw_table(seed, samples, seq,
                              {.samples = samples,
                               .feature_columns = config_.features,
                               .classes = classes ? config_.outputs : 0,
                               .value_columns = classes ? 0 : config_.outputs});
  }

  void initialise(storage::TensorId tensor, uint64_t first_row, uint64_t seed,
                  std::span<float> values) const override {
    if (is_state(tensor)) return initialise_norm(tensor, values);
    const uint64_t in = specs_[tensor / 2 * 2].columns;  // of the layer's weight
    const double bound = 1 / std::sqrt(double(in));
    const uint64_t first = first_row * specs_[tensor].columns;
    for (size_t i = 0; i < values.size(); i++) {
      const double share = double(math::random_bits(seed, tensor, first + i)) / 4294967296.0;
      values[i] = float(bound * (2 * share - 1));
    }
    if (tensor % 2 == 1) initialise_norm(tensor, values);
  }

  void evaluate(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    const train::MicroBatches parts(batch, policy);
    metrics_ = {};
    evaluated_ = &parts;
    best_.assign(config_.loss == Loss::kCrossEntropy ? batch.rows() : 0, Best{});
    forward(context, parts, false);
    evaluated_ = nullptr;
    count_classes(batch);
    context.finish_updates();
    forget();
  }

  void train(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    const train::MicroBatches parts(batch, policy);
    forward(context, parts, true);
    context.finish_updates();
    backward(context, parts);
    forget();
  }

 private:
  // The class with the largest logit so far.
  struct Best {
    float logit = -std::numeric_limits<float>::infinity();
    int32_t of = 0;
  };

  stream::Parameter parameter(storage::TensorId tensor) const {
    return {
        .tensor = tensor, .rows = int64_t(specs_[tensor].rows), .columns = int64_t(specs_[tensor].columns)};
  }
  storage::TensorId first_state() const { return storage::TensorId(2 * (config_.hidden.size() + 1)); }
  bool has_bias(size_t layer) const {
    return layer == config_.hidden.size() || config_.norm == nullptr || config_.norm->layer_has_bias;
  }
  NormPlace place_of_norm(size_t layer) const {
    const bool state = !config_.norm->state.empty();
    return {.columns = int64_t(config_.hidden[layer]),
            .vectors = parameter(vectors_of(layer)),
            .first = has_bias(layer) ? int64_t(config_.hidden[layer]) : 0,
            .state = state ? parameter(first_state() + storage::TensorId(layer)) : stream::Parameter{}};
  }
  // First values of a bundle's parts that are a norm's. A bundle is one block.
  void initialise_norm(storage::TensorId tensor, std::span<float> values) const {
    for (const storage::TensorPart& part : specs_[tensor].parts) {
      if (!part.name.starts_with("norms.")) continue;
      float value = part.name.ends_with(".weight") ? 1 : 0;
      for (const auto& [name, first_value] : config_.norm->state)
        if (part.name.ends_with("." + name)) value = first_value;
      std::fill_n(values.begin() + ptrdiff_t(part.first_element), part.shape[0], value);
    }
  }
  // The vectors of a linear layer, where it has a bias.
  Vectors load(Context& context, size_t layer, bool gradient) const {
    if (!has_bias(layer)) return {};
    const stream::Parameter vectors = parameter(vectors_of(layer));
    return {.values = context.load_vectors(vectors),
            .gradient = gradient ? context.gradient_of_vectors(vectors) : Tensor{}};
  }

  // The features of a span's rows.
  static std::vector<Tensor> features(Context& context, const train::MicroBatches& parts, train::Span span) {
    std::vector<Tensor> x;
    for (size_t i = span.first; i < span.last; i++) {
      const math::ConstMatrix from = parts.features(i);
      x.push_back(context.tensor(from.rows, from.columns));
      context.compute({.writes = {x.back()}}, [&](stream::Workspace) {
        const math::Matrix to = context.matrix(x.back());
        std::copy_n(from.data, from.rows * from.columns, to.data);
      });
    }
    return x;
  }

  // What an activation takes: the sums of its layer, normalized.
  std::vector<Tensor> before_activation(Context& context, size_t layer, size_t s) const {
    return norms_.empty() ? sums_[layer][s] : norms_[layer]->forward(context, sums_[layer][s]);
  }

  // The input of a layer: features, or what follows from the sums of the layer before. Cheap, so that the
  // backward pass computes it again.
  std::vector<Tensor> input(Context& context, const train::MicroBatches& parts, train::Span span,
                            size_t layer, size_t s, bool training) const {
    if (layer == 0) return features(context, parts, span);
    std::vector<Tensor> x = activate(context, config_.activation, before_activation(context, layer - 1, s));
    if (training) dropouts_[layer - 1].apply(context, parts, span, x);
    return x;
  }

  void forward(Context& context, const train::MicroBatches& parts, bool training) {
    const std::vector<train::Span> spans = parts.spans();
    for (size_t l = 0; l < layers_.size(); l++) {
      sums_.emplace_back();
      for (size_t s = 0; s < spans.size(); s++) {
        const std::vector<Tensor> x = input(context, parts, spans[s], l, s, training);
        sums_.back().push_back(layers_[l].forward(context, x, load(context, l, false)));
      }
      if (!norms_.empty()) norms_[l]->begin(context, sums_.back(), training);
    }
    loss_sums_.assign(parts.sequences(), 0);
    for (size_t s = 0; s < spans.size(); s++) {
      const std::vector<Tensor> x = input(context, parts, spans[s], layers_.size(), s, training);
      if (head_) {
        saved_.push_back(head_->forward(context, parts, spans[s], x, loss_sums_));
      } else {
        outputs_.push_back(last_->forward(context, x, load(context, layers_.size(), false)));
        if (observer_ && !training) observe(context, spans[s], outputs_.back());
        loss_of_values_->forward(context, parts, spans[s], outputs_.back(), loss_sums_,
                                 training ? nullptr : &metrics_);
      }
    }
    loss_ = std::accumulate(loss_sums_.begin(), loss_sums_.end(), 0.0) / double(parts.total_tokens());
  }

  void backward(Context& context, const train::MicroBatches& parts) {
    const std::vector<train::Span> spans = parts.spans();
    std::vector<std::vector<Tensor>> dx;
    for (size_t s = 0; s < spans.size(); s++) {
      const std::vector<Tensor> x = input(context, parts, spans[s], layers_.size(), s, true);
      if (head_) {
        dx.push_back(head_->backward(context, parts, spans[s], x, saved_[s], false));
      } else {
        const Vectors vectors = load(context, layers_.size(), true);
        loss_of_values_->backward(context, parts, spans[s], outputs_[s]);
        dx.push_back(last_->backward(context, x, outputs_[s], vectors, parts.seq()));
        context.end_vectors(parameter(vectors_of(layers_.size())));
      }
    }
    const auto behind_layer = [&](size_t l, size_t s) {
      dropouts_[l].apply(context, parts, spans[s], dx[s]);
      activate_backward(context, config_.activation, before_activation(context, l, s), dx[s]);
    };
    for (size_t l = layers_.size(); l-- > 0;) {
      if (!norms_.empty()) {
        for (size_t s = 0; s < spans.size(); s++) behind_layer(l, s);
        dx = norms_[l]->backward(context, sums_[l], dx, parts.seq());
      }
      for (size_t s = 0; s < spans.size(); s++) {
        if (norms_.empty()) behind_layer(l, s);
        const std::vector<Tensor> x = input(context, parts, spans[s], l, s, true);
        const Vectors vectors = load(context, l, true);
        if (l > 0)
          dx[s] = layers_[l].backward(context, x, dx[s], vectors, parts.seq());
        else
          layers_[l].backward_parameters(context, x, dx[s], vectors, parts.seq());
        if (has_bias(l)) context.end_vectors(parameter(vectors_of(l)));
      }
    }
  }

  void see_logits(size_t micro_batch, int64_t first, math::ConstMatrix logits) {
    if (evaluated_ == nullptr) return;
    if (observer_) observer_(micro_batch, first, logits);
    for (int64_t r = 0; r < logits.rows; r++) {
      Best& best = best_[evaluated_->first_row(micro_batch) + uint64_t(r)];
      for (int64_t c = 0; c < logits.columns; c++)
        if (logits.row(r)[c] > best.logit) best = {logits.row(r)[c], int32_t(first + c)};
    }
  }

  void observe(Context& context, train::Span span, const std::vector<Tensor>& y) const {
    for (size_t i = 0; i < y.size(); i++)
      context.compute({.reads = {y[i]}},
                      [&, i](stream::Workspace) { observer_(span.first + i, 0, context.matrix(y[i])); });
  }

  void count_classes(const train::Batch& batch) {
    if (!head_) return;
    const bool confusion = config_.outputs <= kMostConfusedClasses;
    if (confusion) metrics_.confusion.assign(config_.outputs * config_.outputs, 0);
    for (size_t r = 0; r < best_.size(); r++) {
      const int32_t target = batch.targets[r];
      if (target < 0) continue;
      metrics_.rows++;
      metrics_.right += best_[r].of == target;
      if (confusion) metrics_.confusion[size_t(target) * config_.outputs + size_t(best_[r].of)]++;
    }
  }

  void forget() {
    sums_.clear();
    saved_.clear();
    outputs_.clear();
  }

  MlpConfig config_;
  LogitsObserver observer_;
  std::vector<storage::TensorSpec> specs_;
  std::vector<Linear> layers_;                // those before an activation
  std::vector<Dropout> dropouts_;             // behind each of these
  std::vector<std::unique_ptr<Norm>> norms_;  // likewise, or none
  // The last layer: with the softmax, or with a loss of values.
  std::optional<CrossEntropyHead> head_;
  std::optional<Linear> last_;
  std::optional<DenseLoss> loss_of_values_;

  // Of the step under way, by span.
  std::vector<std::vector<std::vector<Tensor>>> sums_;  // by layer: before the activation
  std::vector<CrossEntropyHead::Saved> saved_;
  std::vector<std::vector<Tensor>> outputs_;
  std::vector<double> loss_sums_;  // by unit
  double loss_ = 0;
  // Of the evaluation under way.
  const train::MicroBatches* evaluated_ = nullptr;
  std::vector<Best> best_;  // by row
  train::Metrics metrics_;
};

}  // namespace

std::unique_ptr<train::Model> make_mlp(const MlpConfig& config, LogitsObserver observer) {
  return std::make_unique<Mlp>(config, std::move(observer));
}

}  // namespace headrace::models

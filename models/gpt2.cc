#include "models/gpt2.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "engine/math/random.h"
#include "engine/train/text_data.h"
#include "models/cross_entropy_head.h"
#include "models/embedding.h"
#include "models/gpt2_layer.h"
#include "models/transformer_parts.h"
#include "storage/error.h"

namespace headrace::models {

namespace {

// Tensor numbers, in the order of gpt2_tensors().
constexpr storage::TensorId kTokens = 0, kPositions = 1, kFirstLayer = 2;

storage::TensorSpec matrix_spec(const std::string& name, uint64_t rows, uint64_t columns) {
  return {.name = name,
          .rows = rows,
          .columns = columns,
          .planes = {},
          .parts = {{.name = name, .shape = {rows, columns}, .first_element = 0}}};
}

storage::TensorSpec bundle_spec(const std::string& name,
                                const std::vector<std::pair<std::string, uint64_t>>& vectors) {
  storage::TensorSpec spec{.name = name, .columns = 1, .planes = {}, .parts = {}};
  for (const auto& [part, elements] : vectors) {
    spec.parts.push_back({.name = part, .shape = {elements}, .first_element = spec.rows});
    spec.rows += elements;
  }
  return spec;
}

class Gpt2 : public train::Model {
 public:
  Gpt2(const Gpt2Config& config, LogitsObserver observer) : config_(config), specs_(gpt2_tensors(config)) {
    const storage::TensorId final_norm = kFirstLayer + uint32_t(config.n_layer) * Gpt2Layer::kTensors;
    final_norm_vectors_ = parameter(final_norm);
    const int64_t n = int64_t(config.n_embd);
    final_norm_.emplace(0, n, float(config.layer_norm_epsilon));
    head_.emplace(parameter(kTokens), std::move(observer));
    for (uint32_t l = 0; l < config.n_layer; l++) {
      const storage::TensorId first = kFirstLayer + l * Gpt2Layer::kTensors;
      layers_.emplace_back(config, std::array{parameter(first), parameter(first + 1), parameter(first + 2),
                                              parameter(first + 3), parameter(first + 4)});
    }
  }

  std::vector<storage::TensorSpec> tensors() const override { return specs_; }
  void bind(const storage::Layout& layout) override {
    embedding_.emplace(layout, parameter(kTokens), parameter(kPositions));
  }
  void draw(uint64_t seed, uint64_t samples, uint64_t seq, train::BatchData& batch) const override {
    batch = train::draw_tokens(seed, samples, seq, config_.vocab_size);
  }
  bool recomputes() const override { return true; }
  train::Task task() const override { return train::Task::kNextToken; }
  bool decays(storage::TensorId tensor) const override { return specs_[tensor].columns > 1; }
  bool is_embedding(storage::TensorId tensor) const override {
    return tensor == kTokens || tensor == kPositions;
  }
  double loss() const override { return loss_; }

  void initialise(storage::TensorId tensor, uint64_t first_row, uint64_t seed,
                  std::span<float> values) const override {
    const storage::TensorSpec& spec = specs_[tensor];
    if (spec.columns == 1) {
      std::fill(values.begin(), values.end(), 0.0F);
      for (const storage::TensorPart& part : spec.parts)
        for (uint64_t i = 0; part.name.find("ln_") != std::string::npos && part.name.ends_with(".weight") &&
                             i < part.shape[0];
             i++)
          values[part.first_element - first_row + i] = 1.0F;
      return;
    }
    // GPT-2 scales the layers that add to the residual stream by one over the root of their number.
    const bool residual = spec.name.ends_with("c_proj.weight");
    const double deviation =
        config_.initializer_range / (residual ? std::sqrt(2.0 * double(config_.n_layer)) : 1.0);
    math::fill_normal(seed, tensor, first_row * spec.columns, values.size(), 0.0F, float(deviation),
                      values.data());
  }

  void evaluate(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    const train::MicroBatches parts(batch, policy);
    forward(context, parts, false);
    finish_loss(parts);
    context.finish_updates();
    forget();
  }

  void train(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    const train::MicroBatches parts(batch, policy);
    forward(context, parts, true);
    finish_loss(parts);
    context.finish_updates();
    backward(context, parts, policy);
    forget();
  }

 private:
  // What a span of micro-batches keeps from its forward to its backward pass.
  struct Head {
    std::vector<Tensor> normed;  // input of the output projection
    CrossEntropyHead::Saved saved;
  };

  stream::Parameter parameter(storage::TensorId tensor) const {
    return {
        .tensor = tensor, .rows = int64_t(specs_[tensor].rows), .columns = int64_t(specs_[tensor].columns)};
  }

  void forward(Context& context, const train::MicroBatches& parts, bool keep) {
    const std::vector<train::Span> spans = parts.spans();
    std::vector<std::vector<Tensor>> x;
    for (const train::Span span : spans) x.push_back(embedding_->forward(context, parts, span));
    for (const Gpt2Layer& layer : layers_) {
      kept_.emplace_back();
      for (std::vector<Tensor>& stream : x) {
        Gpt2Layer::Kept kept = layer.forward(context, parts.seq(), stream);
        stream = std::move(kept.y);
        if (keep) kept_.back().push_back(std::move(kept));
      }
    }
    loss_sums_.assign(parts.sequences(), 0);
    for (size_t s = 0; s < spans.size(); s++) {
      const Vectors vectors{.values = context.load_vectors(final_norm_vectors_), .gradient = {}};
      Head head{.normed = final_norm_->forward(context, x[s], vectors), .saved = {}};
      head.saved = head_->forward(context, parts, spans[s], head.normed, loss_sums_);
      if (keep) heads_.push_back(std::move(head));
    }
    streams_ = std::move(x);
  }

  void backward(Context& context, const train::MicroBatches& parts, const train::ExecutionPolicy& policy) {
    const std::vector<train::Span> spans = parts.spans();
    std::vector<std::vector<Tensor>> dx;
    for (size_t s = 0; s < spans.size(); s++) {
      const Head& head = heads_[s];
      const std::vector<Tensor> dnormed =
          head_->backward(context, parts, spans[s], head.normed, head.saved, policy.recompute_logits);
      const Vectors vectors{.values = context.load_vectors(final_norm_vectors_),
                            .gradient = context.gradient_of_vectors(final_norm_vectors_)};
      dx.emplace_back();
      for (const Tensor& tensor : dnormed) dx.back().push_back(context.tensor(tensor.rows, tensor.columns));
      final_norm_->backward(context, streams_[s], dnormed, dx.back(), false, vectors, parts.seq());
      context.end_vectors(final_norm_vectors_);
    }
    for (size_t l = layers_.size(); l-- > 0;)
      for (size_t s = 0; s < spans.size(); s++)
        layers_[l].backward(context, parts.seq(), kept_[l][s], policy.recompute_layers, dx[s]);
    for (size_t s = 0; s < spans.size(); s++) embedding_->backward(context, parts, spans[s], dx[s]);
  }

  void finish_loss(const train::MicroBatches& parts) {
    loss_ = std::accumulate(loss_sums_.begin(), loss_sums_.end(), 0.0) / double(parts.total_tokens());
  }

  void forget() {
    kept_.clear();
    heads_.clear();
    streams_.clear();
  }

  Gpt2Config config_;
  std::vector<storage::TensorSpec> specs_;
  stream::Parameter final_norm_vectors_;
  std::optional<LayerNorm> final_norm_;
  std::optional<CrossEntropyHead> head_;
  std::optional<Embedding> embedding_;
  std::vector<Gpt2Layer> layers_;

  // Of the step under way, by span.
  std::vector<std::vector<Gpt2Layer::Kept>> kept_;  // by layer
  std::vector<Head> heads_;
  std::vector<std::vector<Tensor>> streams_;  // output of the last layer
  std::vector<double> loss_sums_;             // by sequence
  double loss_ = 0;
};

}  // namespace

std::vector<storage::TensorSpec> gpt2_tensors(const Gpt2Config& config) {
  const uint64_t n = config.n_embd, inner = config.n_inner;
  std::vector<storage::TensorSpec> specs{matrix_spec("wte.weight", config.vocab_size, n),
                                         matrix_spec("wpe.weight", config.n_positions, n)};
  for (uint64_t l = 0; l < config.n_layer; l++) {
    const std::string h = fmt::format("h.{}.", l);
    specs.push_back(matrix_spec(h + "attn.c_attn.weight", 3 * n, n));
    specs.push_back(matrix_spec(h + "attn.c_proj.weight", n, n));
    specs.push_back(matrix_spec(h + "mlp.c_fc.weight", inner, n));
    specs.push_back(matrix_spec(h + "mlp.c_proj.weight", n, inner));
    specs.push_back(bundle_spec(h + "vectors", {{h + "ln_1.weight", n},
                                                {h + "ln_1.bias", n},
                                                {h + "attn.c_attn.bias", 3 * n},
                                                {h + "attn.c_proj.bias", n},
                                                {h + "ln_2.weight", n},
                                                {h + "ln_2.bias", n},
                                                {h + "mlp.c_fc.bias", inner},
                                                {h + "mlp.c_proj.bias", n}}));
  }
  specs.push_back(bundle_spec("ln_f", {{"ln_f.weight", n}, {"ln_f.bias", n}}));
  return specs;
}

std::unique_ptr<train::Model> make_gpt2(const Gpt2Config& config, LogitsObserver observer) {
  return std::make_unique<Gpt2>(config, std::move(observer));
}

}  // namespace headrace::models

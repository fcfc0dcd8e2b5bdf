#include "models/gcn.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include <fmt/format.h>

#include "engine/math/activations.h"
#include "engine/math/gemm.h"
#include "engine/math/random.h"
#include "models/class_loss.h"
#include "models/dropout.h"
#include "models/global_pooling.h"
#include "models/graph_convolution.h"
#include "models/top_k_pooling.h"
#include "storage/error.h"

namespace headrace::models {

using stream::Workspace;

namespace {

constexpr storage::TensorId kFeatures = 0, kVectors = 1, kFirstWeight = 2;
constexpr uint64_t kTargetStream = 2;

storage::TensorSpec matrix_spec(const std::string& name, uint64_t rows, uint64_t columns,
                                uint32_t slots = 2) {
  return {.name = name,
          .rows = rows,
          .columns = columns,
          .slots = slots,
          .planes = {},
          .parts = {{.name = name, .shape = {rows, columns}, .first_element = 0}}};
}

// Columns behind each convolution.
std::vector<uint64_t> widths_of(const GcnConfig& config) {
  std::vector<uint64_t> widths = config.hidden;
  if (config.graphs == 0) widths.push_back(config.classes);
  return widths;
}

std::vector<storage::TensorSpec> gcn_tensors(const GcnConfig& config) {
  const std::vector<uint64_t> widths = widths_of(config);
  storage::TensorSpec vectors{.name = "vectors", .columns = 1, .planes = {}, .parts = {}};
  const auto add_vector = [&](const std::string& name, uint64_t elements) {
    vectors.parts.push_back({.name = name, .shape = {elements}, .first_element = vectors.rows});
    vectors.rows += elements;
  };
  std::vector<storage::TensorSpec> weights;
  uint64_t columns = config.features;
  for (size_t l = 0; l < widths.size(); l++) {
    weights.push_back(matrix_spec(fmt::format("conv.{}.weight", l), widths[l], columns));
    add_vector(fmt::format("conv.{}.bias", l), widths[l]);
    if (config.pool_ratio < 1) add_vector(fmt::format("pool.{}.weight", l), widths[l]);
    columns = widths[l];
  }
  if (config.graphs > 0) {
    weights.push_back(matrix_spec("head.weight", config.classes, columns));
    add_vector("head.bias", config.classes);
  }
  std::vector<storage::TensorSpec> specs{matrix_spec("features", config.nodes, config.features, 1), vectors};
  specs.insert(specs.end(), weights.begin(), weights.end());
  return specs;
}

class Gcn : public train::Model {
 public:
  Gcn(const GcnConfig& config, ClassLogitsObserver observer)
      : config_(config),
        specs_(gcn_tensors(config)),
        widths_(widths_of(config)),
        pooling_(config.pooling_kind()),
        loss_(std::move(observer)) {
    HEADRACE_CHECK(config.settled());
    for (uint32_t l = 0; l < widths_.size(); l++) {
      convolutions_.emplace_back(parameter(kFirstWeight + l), vector_at(fmt::format("conv.{}.bias", l)));
      dropouts_.emplace_back(config.dropout, l);
      if (config.pool_ratio < 1)
        top_k_.emplace_back(vector_at(fmt::format("pool.{}.weight", l)), config.pool_ratio);
    }
    if (config.graphs > 0)
      head_.emplace_back(parameter(kFirstWeight + uint32_t(widths_.size())), vector_at("head.bias"));
  }

  std::vector<storage::TensorSpec> tensors() const override { return specs_; }
  void bind(const storage::Layout&) override {}
  train::Task task() const override { return train::Task::kClassification; }
  const char* row_name() const override { return "nodes"; }
  const char* target_name() const override { return config_.graphs > 0 ? "graphs" : "nodes"; }
  bool decays(storage::TensorId tensor) const override { return tensor >= kFirstWeight; }
  double loss() const override { return loss_.loss(); }
  train::Metrics metrics() const override { return loss_.metrics(); }

  // Glorot and Bengio (2010), normal.
  void initialise(storage::TensorId tensor, uint64_t first_row, uint64_t seed,
                  std::span<float> values) const override {
    const storage::TensorSpec& spec = specs_[tensor];
    if (tensor != kVectors) {
      const double deviation = tensor == kFeatures ? 1 : std::sqrt(2.0 / double(spec.rows + spec.columns));
      math::fill_normal(seed, tensor, first_row * spec.columns, std::ssize(values), 0.0F, float(deviation),
                        values.data());
      return;
    }
    std::fill(values.begin(), values.end(), 0.0F);
    for (const storage::TensorPart& part : spec.parts)
      if (part.name.starts_with("pool."))
        math::fill_normal(seed, tensor, part.first_element, int64_t(part.shape[0]), 0.0F, 1.0F,
                          values.data() + part.first_element);
  }

  void draw(uint64_t seed, uint64_t, uint64_t, train::BatchData& batch) const override {
    std::vector<int64_t> first;
    for (uint64_t g = 0; config_.graphs > 0 && g <= config_.graphs; g++)
      first.push_back(int64_t(g * config_.nodes / config_.graphs));
    batch = {};
    batch.seq = math::kPanel;
    batch.graph = std::make_shared<const train::Graph>(
        train::draw_graph(seed, config_.nodes, config_.edges, std::move(first)));
    for (uint64_t i = 0; i < (config_.graphs > 0 ? config_.graphs : config_.nodes); i++)
      batch.targets.push_back(
          int32_t(uint64_t{math::random_bits(seed, kTargetStream, i)} * config_.classes >> 32));
  }

  void evaluate(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    forward(context, batch, policy, false);
    context.finish_updates();
    forget();
  }

  void train(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy) override {
    const Tensor dlogits = forward(context, batch, policy, true);
    context.finish_updates();
    backward(context, batch, policy, dlogits);
    forget();
  }

 private:
  // What a convolution and what follows it leave for the backward pass.
  struct Layer {
    NodeGraph graph;
    std::vector<Tensor> x;       // its input, in parts
    Tensor y;                    // behind ReLU and dropout, if there are any
    TopKPooling::Pooled pooled;  // of y, if there is top-k pooling
  };

  stream::Parameter parameter(storage::TensorId tensor) const {
    return {
        .tensor = tensor, .rows = int64_t(specs_[tensor].rows), .columns = int64_t(specs_[tensor].columns)};
  }
  int64_t vector_at(const std::string& name) const {
    for (const storage::TensorPart& part : specs_[kVectors].parts)
      if (part.name == name) return int64_t(part.first_element);
    HEADRACE_CHECK(false, name);
  }
  bool is_hidden(size_t layer) const { return layer < config_.hidden.size(); }

  static std::vector<Tensor> parts_of(const Tensor& x, const train::ExecutionPolicy& policy) {
    const auto rows = int64_t(policy.micro_batch) * math::kPanel;
    std::vector<Tensor> parts;
    for (int64_t first = 0; first < x.rows; first += rows)
      parts.push_back(x.row_range(first, std::min(rows, x.rows - first)));
    return parts;
  }
  std::vector<Tensor> features(const Context& context) const {
    std::vector<Tensor> blocks;
    for (uint32_t i = 0; i < context.block_count(parameter(kFeatures)); i++)
      blocks.push_back(context.block_tensor(parameter(kFeatures), i));
    return blocks;
  }

  // The gradient of the logits; not while evaluating.
  Tensor forward(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy,
                 bool training) {
    vectors_.values = context.load_vectors(parameter(kVectors));
    NodeGraph graph;
    graph.whole = batch.graph->adjacency();
    graph.nodes = graph.whole.rows;
    graph.terms = graph.whole.first[graph.nodes];
    graph.first = batch.graph->graph_first();
    std::vector<Tensor> x = features(context);
    for (size_t l = 0; l < widths_.size(); l++) {
      Layer layer{.graph = graph, .x = std::move(x), .y = {}, .pooled = {}};
      layer.y = convolutions_[l].forward(context, graph, layer.x, vectors_, policy.blocks_outside);
      if (is_hidden(l)) activate(context, batch, l, training, layer.y);
      Tensor y = layer.y;
      if (!top_k_.empty()) {
        layer.pooled = top_k_[l].forward(context, graph, layer.y, vectors_);
        y = layer.pooled.y;
        graph = layer.pooled.graph;
      }
      x = parts_of(y, policy);
      layers_.push_back(std::move(layer));
      last_ = y;
    }
    if (config_.graphs == 0) return loss_.run(context, last_, batch.targets, training);
    last_graph_ = graph;
    pooled_ = pooling_.forward(context, graph, last_);
    const Tensor logits = head_[0].forward(context, {pooled_}, vectors_)[0];
    return loss_.run(context, logits, batch.targets, training);
  }

  void activate(Context& context, const train::Batch& batch, size_t layer, bool training,
                const Tensor& y) const {
    context.compute({.reads = {y}, .writes = {y}}, [&, this](Workspace) {
      const math::Matrix values = context.matrix(y);
      math::relu(values, values);
      if (training) dropouts_[layer].apply(batch, 0, values);
    });
  }

  void backward(Context& context, const train::Batch& batch, const train::ExecutionPolicy& policy,
                const Tensor& dlogits) {
    vectors_.gradient = context.gradient_of_vectors(parameter(kVectors));
    Tensor dy = dlogits;
    if (config_.graphs > 0) {
      dy = head_[0].backward(context, {pooled_}, {dlogits}, vectors_, math::kPanel)[0];
      dy = pooling_.backward(context, last_graph_, last_, dy);
    }
    for (size_t l = layers_.size(); l-- > 0;) {
      const Layer& layer = layers_[l];
      if (!top_k_.empty()) dy = top_k_[l].backward(context, layer.pooled, dy, vectors_);
      // What was dropped is zero behind ReLU too, and what ReLU took is zero where nothing was dropped.
      if (is_hidden(l))
        context.compute({.reads = {layer.y}, .writes = {dy}}, [&, this, l](Workspace) {
          dropouts_[l].apply(batch, 0, context.matrix(dy));
          math::relu_backward(context.matrix(layer.y), context.matrix(dy), context.matrix(dy));
        });
      const Tensor dx = l > 0 ? context.tensor(layer.graph.nodes, int64_t(widths_[l - 1])) : Tensor{};
      const std::vector<Tensor> dx_parts = l > 0 ? parts_of(dx, policy) : std::vector<Tensor>{};
      convolutions_[l].backward(context, layer.graph, layer.x, dy, vectors_, dx_parts, policy.blocks_outside);
      dy = dx;
    }
    context.end_vectors(parameter(kVectors));
  }

  void forget() {
    layers_.clear();
    vectors_ = {};
  }

  GcnConfig config_;
  std::vector<storage::TensorSpec> specs_;
  std::vector<uint64_t> widths_;
  std::vector<GraphConvolution> convolutions_;
  std::vector<Dropout> dropouts_;   // behind each hidden one
  std::vector<TopKPooling> top_k_;  // one behind each convolution, or none
  GlobalPooling pooling_;
  std::vector<Linear> head_;  // one, if graphs are classified
  ClassLoss loss_;

  // Of the step under way.
  Vectors vectors_;
  std::vector<Layer> layers_;
  Tensor last_, pooled_;
  NodeGraph last_graph_;
};

}  // namespace

std::unique_ptr<train::Model> make_gcn(const GcnConfig& config, ClassLogitsObserver observer) {
  return std::make_unique<Gcn>(config, std::move(observer));
}

}  // namespace headrace::models

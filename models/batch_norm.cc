#include "models/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "engine/math/batch_norm.h"

namespace headrace::models {

using stream::Workspace;

namespace {

constexpr double kEpsilon = 1e-5, kMomentum = 0.1;

// Rows of the tensor of a step's statistics [3, columns].
enum Statistic : int64_t { kMean, kInverseDeviation, kVariance, kStatistics };

float inverse_deviation(double variance) { return float(1 / std::sqrt(variance + kEpsilon)); }

class BatchNorm : public Norm {
 public:
  explicit BatchNorm(const NormPlace& place) : place_(place) {}

  void begin(Context& context, const std::vector<std::vector<Tensor>>& x, bool training) override {
    rows_ = 0;
    for (const std::vector<Tensor>& span : x)
      for (const Tensor& part : span) rows_ += part.rows;
    statistics_ = context.tensor(kStatistics, place_.columns);
    if (training)
      take_from_rows(context, x);
    else
      take_from_state(context);
  }

  std::vector<Tensor> forward(Context& context, const std::vector<Tensor>& x) const override {
    const Tensor vectors = context.load_vectors(place_.vectors);
    std::vector<Tensor> y;
    for (const Tensor& part : x) {
      y.push_back(context.tensor(part.rows, part.columns));
      context.compute({.reads = {part, statistics_, vectors}, .writes = {y.back()}}, [&](Workspace) {
        const float* weight = weight_of(context, vectors);
        math::batch_norm(context.matrix(part), moments(context), weight, weight + place_.columns,
                         context.matrix(y.back()));
      });
    }
    return y;
  }

  std::vector<std::vector<Tensor>> backward(Context& context, const std::vector<std::vector<Tensor>>& x,
                                            const std::vector<std::vector<Tensor>>& dy, int64_t) override {
    const Tensor sums = sum_rows(context, x, dy, [&](const Tensor& part, const Tensor& gradient, double* to) {
      math::add_batch_norm_gradients(context.matrix(part), moments(context), context.matrix(gradient), to);
    });
    const Tensor vectors = context.load_vectors(place_.vectors);
    for (size_t s = 0; s < x.size(); s++)
      for (size_t i = 0; i < x[s].size(); i++)
        context.compute(
            {.reads = {x[s][i], statistics_, sums, vectors}, .writes = {dy[s][i]}}, [&](Workspace) {
              const math::Matrix d = context.matrix(dy[s][i]);
              math::batch_norm_backward(context.matrix(x[s][i]), moments(context),
                                        weight_of(context, vectors), doubles(context, sums), rows_, d, d);
            });
    add_gradients(context, sums);
    next_state(context);
    return dy;
  }

 private:
  math::ColumnMoments moments(Context& context) const {
    const math::Matrix all = context.matrix(statistics_);
    return {all.row(kMean), all.row(kInverseDeviation)};
  }
  const float* weight_of(Context& context, const Tensor& vectors) const {
    return context.matrix(vectors).data + place_.first;
  }
  static double* doubles(Context& context, const Tensor& sums) {
    return reinterpret_cast<double*>(context.matrix(sums).data);
  }

  // Two sums of each column over all rows, as doubles, in the order of the rows.
  template <class Add>
  Tensor sum_rows(Context& context, const std::vector<std::vector<Tensor>>& x,
                  const std::vector<std::vector<Tensor>>& beside, const Add& add) const {
    const Tensor sums = context.tensor(4, place_.columns);
    for (size_t s = 0; s < x.size(); s++)
      for (size_t i = 0; i < x[s].size(); i++) {
        const bool starts = s == 0 && i == 0;
        std::vector<Tensor> reads{x[s][i]};
        if (!beside.empty()) reads.insert(reads.end(), {beside[s][i], statistics_});
        context.compute({.reads = reads, .writes = {sums}}, [&](Workspace) {
          double* to = doubles(context, sums);
          if (starts) std::fill_n(to, 2 * place_.columns, 0.0);
          add(x[s][i], beside.empty() ? Tensor{} : beside[s][i], to);
        });
      }
    return sums;
  }

  void take_from_rows(Context& context, const std::vector<std::vector<Tensor>>& x) const {
    const Tensor sums = sum_rows(context, x, {}, [&](const Tensor& part, const Tensor&, double* to) {
      math::add_column_moments(context.matrix(part), to);
    });
    context.compute({.reads = {sums}, .writes = {statistics_}}, [&](Workspace) {
      const double* of = doubles(context, sums);
      for (int64_t c = 0; c < place_.columns; c++) {
        const double mean = of[c] / double(rows_);
        set(context, c, mean, std::max(of[place_.columns + c] / double(rows_) - mean * mean, 0.0));
      }
    });
  }
  void take_from_state(Context& context) const {
    const Tensor state = context.load_state(place_.state);
    context.compute({.reads = {state}, .writes = {statistics_}}, [&](Workspace) {
      const float* of = context.matrix(state).data;
      for (int64_t c = 0; c < place_.columns; c++)
        set(context, c, double(of[c]), double(of[place_.columns + c]));
    });
  }
  void set(Context& context, int64_t column, double mean, double variance) const {
    const math::Matrix all = context.matrix(statistics_);
    all.row(kMean)[column] = float(mean);
    all.row(kInverseDeviation)[column] = inverse_deviation(variance);
    all.row(kVariance)[column] = float(variance);
  }

  void add_gradients(Context& context, const Tensor& sums) const {
    const Tensor gradient = context.gradient_of_vectors(place_.vectors);
    context.compute({.reads = {sums}, .writes = {gradient}}, [&](Workspace) {
      const double* of = doubles(context, sums);
      float* weight = context.matrix(gradient).data + place_.first;
      for (int64_t c = 0; c < place_.columns; c++) {
        weight[c] += float(of[place_.columns + c]);
        weight[place_.columns + c] += float(of[c]);
      }
    });
    context.end_vectors(place_.vectors);
  }

  // The running variance is that of the population: rows - 1 in the denominator.
  void next_state(Context& context) const {
    const Tensor before = context.load_state(place_.state);
    const Tensor next = context.gradient_of_vectors(place_.state);
    context.compute({.reads = {before, statistics_}, .writes = {next}}, [&](Workspace) {
      const math::Matrix of = context.matrix(statistics_);
      const double correction = double(rows_) / double(std::max<int64_t>(rows_ - 1, 1));
      const float* from = context.matrix(before).data;
      float* to = context.matrix(next).data;
      for (int64_t c = 0; c < place_.columns; c++) {
        const int64_t v = place_.columns + c;
        to[c] = float((1 - kMomentum) * double(from[c]) + kMomentum * double(of.row(kMean)[c]));
        to[v] =
            float((1 - kMomentum) * double(from[v]) + kMomentum * correction * double(of.row(kVariance)[c]));
      }
    });
    context.end_vectors(place_.state);
  }

  NormPlace place_;
  // Of the step under way.
  Tensor statistics_;
  int64_t rows_ = 0;
};

}  // namespace

std::unique_ptr<Norm> make_batch_norm(const NormPlace& place) { return std::make_unique<BatchNorm>(place); }

}  // namespace headrace::models

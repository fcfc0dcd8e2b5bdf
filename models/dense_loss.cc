#include "models/dense_loss.h"

#include <algorithm>
#include <cmath>

#include "engine/math/dense_losses.h"

namespace headrace::models {
namespace {

void add_metrics(DenseLossKind kind, math::ConstMatrix y, math::ConstMatrix target, train::Metrics& metrics) {
  metrics.rows += uint64_t(y.rows);
  metrics.values += uint64_t(y.rows * y.columns);
  for (int64_t r = 0; r < y.rows; r++)
    for (int64_t c = 0; c < y.columns; c++) {
      const float output = y.row(r)[c], wanted = target.row(r)[c];
      if (kind == DenseLossKind::kSquaredError)
        metrics.absolute_error += std::abs(double(output) - double(wanted));
      else if ((output > 0) == (wanted > 0.5F))
        metrics.right++;
    }
}

}  // namespace

void DenseLoss::forward(Context& context, const train::MicroBatches& batch, train::Span span,
                        const std::vector<Tensor>& y, std::vector<double>& loss_sums,
                        train::Metrics* metrics) const {
  for (size_t i = 0; i < y.size(); i++)
    context.compute({.reads = {y[i]}}, [&](stream::Workspace) {
      const math::ConstMatrix outputs = context.matrix(y[i]), targets = batch.values(span.first + i);
      size_t unit = batch.first_sequence(span.first + i);
      for (int64_t first = 0; first < outputs.rows; first += batch.seq()) {
        const int64_t rows = std::min(batch.seq(), outputs.rows - first);
        const math::ConstMatrix part = outputs.row_range(first, rows),
                                wanted = targets.row_range(first, rows);
        const double sum = kind_ == DenseLossKind::kSquaredError
                               ? math::squared_error_sum(part, wanted)
                               : math::binary_cross_entropy_sum(part, wanted);
        loss_sums[unit++] = sum / double(outputs.columns);
      }
      if (metrics != nullptr) add_metrics(kind_, outputs, targets, *metrics);
    });
}

void DenseLoss::backward(Context& context, const train::MicroBatches& batch, train::Span span,
                         const std::vector<Tensor>& y) const {
  for (size_t i = 0; i < y.size(); i++)
    context.compute({.writes = {y[i]}}, [&](stream::Workspace) {
      const math::Matrix outputs = context.matrix(y[i]);
      const math::ConstMatrix targets = batch.values(span.first + i);
      const float scale = 1.0F / float(batch.total_tokens() * outputs.columns);
      if (kind_ == DenseLossKind::kSquaredError)
        math::squared_error_backward(outputs, targets, scale, outputs);
      else
        math::binary_cross_entropy_backward(outputs, targets, scale, outputs);
    });
}

}  // namespace headrace::models

#include "engine/train/gradient_norm.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/math/gemm.h"
#include "engine/math/kernels.h"
#include "engine/math/parallel.h"

namespace headrace::train {

namespace {

uint64_t panels_of(const storage::BlockLayout& block) {
  return (block.rows + math::kPanel - 1) / math::kPanel;
}

}  // namespace

GradientNorm::GradientNorm(const storage::Layout& layout) : layout_(layout) {
  size_t panels = 0;
  for (const storage::BlockLayout& block : layout.blocks()) {
    first_panel_.push_back(panels);
    panels += panels_of(block);
  }
  sums_.assign(panels, 0);
}

void GradientNorm::add(storage::BlockId id, const float* gradient) {
  const storage::BlockLayout& block = layout_.block(id);
  const uint64_t columns = block.elements / block.rows;
  math::parallel_tasks(panels_of(block), [&](uint64_t panel) {
    const uint64_t first = panel * math::kPanel;
    const uint64_t rows = std::min<uint64_t>(math::kPanel, block.rows - first);
    sums_[first_panel_[id] + panel] =
        math::sum_of_squares(gradient + first * columns, int64_t(rows * columns));
  });
}

double GradientNorm::norm() const { return std::sqrt(std::accumulate(sums_.begin(), sums_.end(), 0.0)); }

}  // namespace headrace::train

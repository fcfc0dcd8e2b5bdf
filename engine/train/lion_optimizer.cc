// Lion (Chen et al. 2023) over split weights: [high | low | moment].
#include <oneapi/tbb/blocked_range.h>

#include "engine/math/parallel.h"
#include "engine/train/optimizer.h"

namespace headrace::train {

namespace {

class Lion : public Optimizer {
 public:
  explicit Lion(const RunOptions& options) : options_(options), entries_(entries_of(options, planes())) {}

  std::vector<storage::Plane> planes() const override {
    return {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}};
  }
  stream::BlockPlanes block_planes() const override { return entries_; }

  void update(const OptimizerStep& step, bool decay, const storage::BlockLayout& block, std::byte* weights,
              std::byte* moments, const float* gradient) const override {
    const math::LionStep lion{.lr = step.lr,
                              .beta1 = options_.beta1,
                              .beta2 = options_.beta2,
                              .weight_decay = decay ? options_.weight_decay : 0.0,
                              .terms = gradient_terms(options_, step, decay)};
    auto* high = plane_of<uint16_t>(block, entries_, 0, weights, moments);
    auto* low = plane_of<uint16_t>(block, entries_, 1, weights, moments);
    auto* moment = plane_of<float>(block, entries_, 2, weights, moments);
    math::parallel_ranges(oneapi::tbb::blocked_range<uint64_t>(0, block.elements, kElementsPerTask),
                          [&](const auto& part) {
                            const uint64_t first = part.begin();
                            math::lion(lion, gradient + first, int64_t(part.end() - first), high + first,
                                       low + first, moment + first);
                          });
  }

 private:
  RunOptions options_;
  stream::BlockPlanes entries_;
};

}  // namespace

std::unique_ptr<Optimizer> make_lion(const RunOptions& options) { return std::make_unique<Lion>(options); }

}  // namespace headrace::train

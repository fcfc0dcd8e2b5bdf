// AdamW with moments of 8 bits, quantised in groups of 256 elements (after Dettmers et al. 2022), over split
// weights: [high | low | first moments' codes | second moments' codes | scales of the first | of the second].
#include <cmath>

#include "engine/train/optimizer.h"

namespace headrace::train {

namespace {

class AdamW8bit : public Optimizer {
 public:
  explicit AdamW8bit(const RunOptions& options)
      : options_(options), entries_(entries_of(options, planes())) {}

  std::vector<storage::Plane> planes() const override {
    return {{"weight.high", 2},
            {"weight.low", 2},
            {"moment1.code", 1},
            {"moment2.code", 1},
            {"moment1.scale", 4, uint32_t(math::kMomentGroup)},
            {"moment2.scale", 4, uint32_t(math::kMomentGroup)}};
  }
  stream::BlockPlanes block_planes() const override { return entries_; }

  void update(const OptimizerStep& step, bool decay, const storage::BlockLayout& block, std::byte* weights,
              std::byte* moments, const float* gradient) const override {
    const math::AdamWStep adamw{.lr = step.lr,
                                .beta1 = options_.beta1,
                                .beta2 = options_.beta2,
                                .epsilon = options_.eps,
                                .weight_decay = decay ? options_.weight_decay : 0.0,
                                .bias_correction1 = 1 - std::pow(options_.beta1, double(step.step)),
                                .bias_correction2 = 1 - std::pow(options_.beta2, double(step.step)),
                                .terms = gradient_terms(options_, step, decay)};
    math::adamw8bit(adamw, step.step, gradient, int64_t(block.elements),
                    plane_of<uint16_t>(block, entries_, 0, weights, moments),
                    plane_of<uint16_t>(block, entries_, 1, weights, moments),
                    {.code1 = plane_of<int8_t>(block, entries_, 2, weights, moments),
                     .code2 = plane_of<uint8_t>(block, entries_, 3, weights, moments),
                     .scale1 = plane_of<float>(block, entries_, 4, weights, moments),
                     .scale2 = plane_of<float>(block, entries_, 5, weights, moments)});
  }

 private:
  RunOptions options_;
  stream::BlockPlanes entries_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw8bit(const RunOptions& options) {
  return std::make_unique<AdamW8bit>(options);
}

}  // namespace headrace::train

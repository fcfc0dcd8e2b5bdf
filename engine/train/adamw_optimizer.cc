// AdamW (Loshchilov and Hutter 2019) over split weights: [high | low | first moment | second moment]; and
// Adam (Kingma and Ba 2015), which is the same without decay.
#include <cmath>

#include <oneapi/tbb/blocked_range.h>

#include "engine/math/parallel.h"
#include "engine/train/optimizer.h"

namespace headrace::train {

namespace {

class AdamW : public Optimizer {
 public:
  explicit AdamW(const RunOptions& options) : options_(options), entries_(entries_of(options, planes())) {}

  std::vector<storage::Plane> planes() const override {
    return {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2", 4}};
  }
  stream::BlockPlanes block_planes() const override { return entries_; }

  void update(const OptimizerStep& step, bool decay, const storage::BlockLayout& block, std::byte* weights,
              std::byte* moments, const float* gradient) const override {
    const bool decays = decay && options_.optimizer == "adamw";
    const math::AdamWStep adamw{.lr = step.lr,
                                .beta1 = options_.beta1,
                                .beta2 = options_.beta2,
                                .epsilon = options_.eps,
                                .weight_decay = decays ? options_.weight_decay : 0.0,
                                .bias_correction1 = 1 - std::pow(options_.beta1, double(step.step)),
                                .bias_correction2 = 1 - std::pow(options_.beta2, double(step.step)),
                                .terms = gradient_terms(options_, step, decay)};
    auto* high = plane_of<uint16_t>(block, entries_, 0, weights, moments);
    auto* low = plane_of<uint16_t>(block, entries_, 1, weights, moments);
    auto* moment1 = plane_of<float>(block, entries_, 2, weights, moments);
    auto* moment2 = plane_of<float>(block, entries_, 3, weights, moments);
    math::parallel_ranges(oneapi::tbb::blocked_range<uint64_t>(0, block.elements, kElementsPerTask),
                          [&](const auto& part) {
                            const uint64_t first = part.begin();
                            math::adamw(adamw, gradient + first, int64_t(part.end() - first), high + first,
                                        low + first, moment1 + first, moment2 + first);
                          });
  }

 private:
  RunOptions options_;
  stream::BlockPlanes entries_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const RunOptions& options) { return std::make_unique<AdamW>(options); }

}  // namespace headrace::train

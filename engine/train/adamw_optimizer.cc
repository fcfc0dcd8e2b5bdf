// AdamW (Loshchilov and Hutter 2019) over split weights: [high | low | first moment | second moment].
#include <cmath>

#include <oneapi/tbb/blocked_range.h>

#include "engine/math/kernels.h"
#include "engine/math/parallel.h"
#include "engine/train/optimizer.h"

namespace headrace::train {

namespace {

constexpr uint64_t kElementsPerTask = 32768;

class AdamW : public Optimizer {
 public:
  explicit AdamW(const RunOptions& options)
      : options_(options), weight_planes_(options.weights == WeightPrecision::kFloat32 ? 2 : 1) {}

  std::vector<storage::Plane> planes() const override {
    return {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2", 4}};
  }
  stream::BlockPlanes block_planes() const override { return {.weight_planes = weight_planes_, .planes = 4}; }

  void update(const OptimizerStep& step, bool decay, const storage::BlockLayout& block, std::byte* weights,
              std::byte* moments, const float* gradient) const override {
    const auto plane = [&](uint32_t index) {
      return index < weight_planes_
                 ? weights + block.planes[index].offset
                 : moments + block.planes[index].offset - block.planes[weight_planes_].offset;
    };
    const math::AdamWStep adamw{.lr = step.lr,
                                .beta1 = options_.beta1,
                                .beta2 = options_.beta2,
                                .epsilon = options_.eps,
                                .weight_decay = decay ? options_.weight_decay : 0.0,
                                .bias_correction1 = 1 - std::pow(options_.beta1, double(step.step)),
                                .bias_correction2 = 1 - std::pow(options_.beta2, double(step.step)),
                                .gradient_scale = step.gradient_scale};
    auto* high = reinterpret_cast<uint16_t*>(plane(0));
    auto* low = reinterpret_cast<uint16_t*>(plane(1));
    auto* moment1 = reinterpret_cast<float*>(plane(2));
    auto* moment2 = reinterpret_cast<float*>(plane(3));
    math::parallel_ranges(oneapi::tbb::blocked_range<uint64_t>(0, block.elements, kElementsPerTask),
                          [&](const auto& part) {
                            const uint64_t first = part.begin();
                            math::adamw(adamw, gradient + first, int64_t(part.end() - first), high + first,
                                        low + first, moment1 + first, moment2 + first);
                          });
  }

 private:
  RunOptions options_;
  uint32_t weight_planes_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(const RunOptions& options) { return std::make_unique<AdamW>(options); }

}  // namespace headrace::train

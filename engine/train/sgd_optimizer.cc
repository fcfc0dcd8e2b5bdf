// Stochastic gradient descent over split weights: [high | low], with momentum also [moment].
#include <oneapi/tbb/blocked_range.h>

#include "engine/math/parallel.h"
#include "engine/train/optimizer.h"

namespace headrace::train {

namespace {

class Sgd : public Optimizer {
 public:
  explicit Sgd(const RunOptions& options) : options_(options), entries_(entries_of(options, planes())) {}

  std::vector<storage::Plane> planes() const override {
    std::vector<storage::Plane> planes{{"weight.high", 2}, {"weight.low", 2}};
    if (options_.momentum != 0) planes.push_back({"moment1", 4});
    return planes;
  }
  stream::BlockPlanes block_planes() const override { return entries_; }

  void update(const OptimizerStep& step, bool decay, const storage::BlockLayout& block, std::byte* weights,
              std::byte* moments, const float* gradient) const override {
    const math::SgdStep sgd{.lr = step.lr,
                            .momentum = options_.momentum,
                            .nesterov = options_.nesterov,
                            .terms = gradient_terms(options_, step, decay)};
    auto* high = plane_of<uint16_t>(block, entries_, 0, weights, moments);
    auto* low = plane_of<uint16_t>(block, entries_, 1, weights, moments);
    auto* moment = options_.momentum != 0 ? plane_of<float>(block, entries_, 2, weights, moments) : nullptr;
    math::parallel_ranges(oneapi::tbb::blocked_range<uint64_t>(0, block.elements, kElementsPerTask),
                          [&](const auto& part) {
                            const uint64_t first = part.begin();
                            math::sgd(sgd, gradient + first, int64_t(part.end() - first), high + first,
                                      low + first, moment == nullptr ? nullptr : moment + first);
                          });
  }

 private:
  RunOptions options_;
  stream::BlockPlanes entries_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(const RunOptions& options) { return std::make_unique<Sgd>(options); }

}  // namespace headrace::train

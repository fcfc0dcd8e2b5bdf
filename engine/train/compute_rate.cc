#include "engine/train/compute_rate.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <utility>
#include <vector>

#include "engine/math/gemm.h"
#include "engine/math/kernels.h"

namespace headrace::train {
namespace {

using math::Accumulate;
using math::ConstMatrix;
using math::Matrix;
using math::WeightView;
using Clock = std::chrono::steady_clock;

constexpr double kSeconds = 0.5;                       // for all shapes together
constexpr uint64_t kMostElements = uint64_t{4} << 20;  // of a matrix; larger ones run no faster

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The operands of one block's products.
class Products {
 public:
  Products(int64_t rows, int64_t columns, int64_t tokens, WeightPrecision weights)
      : rows_(rows),
        columns_(columns),
        tokens_(tokens),
        bfloat16_(weights == WeightPrecision::kBfloat16),
        x_(size_t(tokens * columns), 0.5F),
        y_(size_t(tokens * rows), 0.25F),
        dw_(size_t(rows * columns)),
        high_(dw_.size()),
        low_(dw_.size()),
        workspace_(std::max({math::gemm_nt_workspace_bytes(tokens, rows, columns),
                             math::gemm_nn_workspace_bytes(tokens, rows, columns),
                             math::gemm_tn_workspace_bytes(tokens, rows, columns)}) +
                   64) {
    std::fill(dw_.begin(), dw_.end(), 0.125F);
    math::split_planes(dw_.data(), int64_t(dw_.size()), high_.data(), low_.data());
  }

  double flops() const { return 6.0 * double(rows_) * double(columns_) * double(tokens_); }

  double seconds() {
    void* place = workspace_.data();
    size_t bytes = workspace_.size();
    std::align(64, bytes - 64, place, bytes);
    const std::span<std::byte> workspace(static_cast<std::byte*>(place), bytes);
    const WeightView w{high_.data(), bfloat16_ ? nullptr : low_.data(), rows_, columns_};
    const Matrix x{x_.data(), tokens_, columns_, columns_}, y{y_.data(), tokens_, rows_, rows_};
    const auto start = Clock::now();
    math::gemm_nt(x, w, nullptr, y, workspace);
    math::gemm_tn(y, x, tokens_, {dw_.data(), rows_, columns_, columns_}, Accumulate::kNo, workspace);
    math::gemm_nn(y, w, x, Accumulate::kNo, workspace);
    const double seconds = seconds_since(start);
    std::fill(x_.begin(), x_.end(), 0.5F);  // so that repetitions do not grow
    return seconds;
  }

 private:
  int64_t rows_, columns_, tokens_;
  bool bfloat16_;
  std::vector<float> x_, y_, dw_;
  std::vector<uint16_t> high_, low_;
  std::vector<std::byte> workspace_;
};

}  // namespace

double measure_flops_per_second(const storage::Layout& layout, WeightPrecision weights, uint64_t tokens) {
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> shapes;  // rows, columns -> blocks
  for (const storage::BlockLayout& block : layout.blocks()) {
    const uint64_t columns = layout.tensor(block.tensor).columns;
    if (columns > 1 && block.slots == 2) shapes[{block.rows, columns}]++;
  }
  double flops = 0, seconds = 0;
  for (const auto& [shape, blocks] : shapes) {
    const auto [rows, columns] = shape;
    const uint64_t widest = std::max(rows, columns);
    Products products(int64_t(std::min(rows, std::max<uint64_t>(kMostElements / columns, 1))),
                      int64_t(columns), int64_t(std::clamp<uint64_t>(kMostElements / widest, 1, tokens)),
                      weights);
    const auto start = Clock::now();
    products.seconds();  // brings memory and clocks up
    std::vector<double> times;
    do {
      times.push_back(products.seconds());
    } while (seconds_since(start) < kSeconds / double(shapes.size()));
    std::nth_element(times.begin(), times.begin() + ptrdiff_t(times.size() / 2), times.end());
    seconds += double(blocks) * times[times.size() / 2];
    flops += double(blocks) * products.flops();
  }
  return seconds > 0 ? flops / seconds : 0;
}

}  // namespace headrace::train

// Products with a weight that is packed once have the bits of those that pack it themselves.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "engine/math/gemm.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Grid;
using testing::Random;
using testing::Workspace;

struct Shape {
  int64_t rows, out, in;
  std::string text() const {
    return std::to_string(rows) + " rows, " + std::to_string(in) + " -> " + std::to_string(out);
  }
};

constexpr Shape kShapes[] = {{1, 1, 1},    {3, 27, 13},    {5, 256, 64},  {2, 300, 257},
                             {7, 520, 31}, {16, 1031, 96}, {33, 96, 600}, {4, 768, 513}};

class PackedProducts : public ::testing::TestWithParam<bool> {
 protected:
  // A weight with or without its low plane.
  struct Planes {
    Planes(Random& random, const Shape& shape, bool has_low)
        : high(size_t(shape.out * shape.in)), low(high.size()), has_low_plane(has_low), columns(shape.in) {
      for (size_t i = 0; i < high.size(); i++) {
        high[i] = uint16_t(0x3e00 + (random.bits() & 0x81ff));  // of size about 0.1 to 0.5, of either sign
        low[i] = uint16_t(random.bits());
      }
    }
    WeightView rows(int64_t first, int64_t count) const {
      return {high.data() + first * columns, has_low_plane ? low.data() + first * columns : nullptr, count,
              columns};
    }
    std::vector<uint16_t> high, low;
    bool has_low_plane;
    int64_t columns;
  };
  // Aligned, and filled with something.
  class Packed {
   public:
    explicit Packed(int64_t floats) : workspace_(size_t(floats) * sizeof(float)) {
      std::fill_n(data(), floats, -7777.0F);
    }
    float* data() { return reinterpret_cast<float*>(std::span<std::byte>(workspace_).data()); }

   private:
    Workspace workspace_;
  };
  // In blocks of whole panels, as they are stored.
  template <class Pack>
  static void for_each_block(int64_t out, int64_t block, const Pack& pack) {
    for (int64_t first = 0; first < out; first += block) pack(first, std::min(block, out - first));
  }
};

TEST_P(PackedProducts, WithTheTransposedHaveItsBits) {
  for (const Shape& shape : kShapes) {
    Random random;
    const Planes w(random, shape, GetParam());
    const Grid x(random, shape.rows, shape.in, 3);
    const std::vector<float> bias = random.normals(shape.out);
    Grid expected(shape.rows, shape.out, 1);
    gemm_nt(x.view(), w.rows(0, shape.out), bias.data(), expected.view(),
            Workspace(gemm_nt_workspace_bytes(shape.rows, shape.out, shape.in)));
    for (const int64_t block : {int64_t{256}, int64_t{512}, shape.out}) {
      Packed packed(packed_nt_floats(shape.out, shape.in));
      for_each_block(shape.out, block, [&](int64_t first, int64_t count) {
        pack_nt(w.rows(first, count), first, packed.data());
      });
      for (int repeat = 0; repeat < 2; repeat++) {
        Grid y(shape.rows, shape.out, 2);
        gemm_nt_packed(x.view(), packed.data(), bias.data(), y.view());
        testing::expect_same_bits(y.values(), expected.values(), shape.text());
      }
    }
  }
}

TEST_P(PackedProducts, WithTheWeightItselfHaveItsBits) {
  for (const Shape& shape : kShapes)
    for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
      Random random;
      const Planes w(random, shape, GetParam());
      const Grid dy(random, shape.rows, shape.out, 3), start(random, shape.rows, shape.in, 1);
      Grid expected = start;
      gemm_nn(dy.view(), w.rows(0, shape.out), expected.view(), accumulate,
              Workspace(gemm_nn_workspace_bytes(shape.rows, shape.out, shape.in)));
      for (const int64_t block : {int64_t{256}, shape.out}) {
        Packed packed(packed_nn_floats(shape.out, shape.in));
        for_each_block(shape.out, block, [&](int64_t first, int64_t count) {
          pack_nn(w.rows(first, count), first, shape.out, packed.data());
        });
        Grid dx = start;
        gemm_nn_packed(dy.view(), packed.data(), dx.view(), accumulate);
        testing::expect_same_bits(dx.values(), expected.values(), shape.text());
      }
    }
}

TEST_P(PackedProducts, HaveTheSameBitsForAnyThreadsAndTarget) {
  const Shape shape{9, 530, 300};
  testing::expect_same_bits_everywhere([&] {
    Random random;
    const Planes w(random, shape, GetParam());
    const Grid x(random, shape.rows, shape.in), dy(random, shape.rows, shape.out);
    Packed nt(packed_nt_floats(shape.out, shape.in)), nn(packed_nn_floats(shape.out, shape.in));
    pack_nt(w.rows(0, shape.out), 0, nt.data());
    pack_nn(w.rows(0, shape.out), 0, shape.out, nn.data());
    Grid y(shape.rows, shape.out), dx(shape.rows, shape.in);
    gemm_nt_packed(x.view(), nt.data(), nullptr, y.view());
    gemm_nn_packed(dy.view(), nn.data(), dx.view(), Accumulate::kNo);
    std::vector<float> all = y.values();
    for (const float value : dx.values()) all.push_back(value);
    return all;
  });
}

INSTANTIATE_TEST_SUITE_P(Weights, PackedProducts, ::testing::Bool(),
                         [](const auto& low) { return low.param ? "BothPlanes" : "HighPlane"; });

}  // namespace
}  // namespace headrace::math

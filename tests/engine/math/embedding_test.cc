#include <gtest/gtest.h>

#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Grid;
using testing::Random;

struct Planes {
  std::vector<uint16_t> high, low;

  explicit Planes(const std::vector<float>& weight) : high(weight.size()), low(weight.size()) {
    split_planes(weight.data(), std::ssize(weight), high.data(), low.data());
  }
};

TEST(Embedding, AddsTokenAndPositionRows) {
  constexpr int64_t kRows = 11, kColumns = 37, kSequence = 5, kTokens = 10;
  Random random;
  const std::vector<float> tokens = random.normals(kRows * kColumns);
  const std::vector<float> positions = random.normals(8 * kColumns);
  const Planes token_planes(tokens), position_planes(positions);
  for (const bool with_low : {true, false}) {
    std::vector<RowPlanes> rows;
    std::vector<int64_t> ids;
    for (int64_t t = 0; t < kTokens; t++) {
      ids.push_back(random.below(kRows));
      rows.push_back({token_planes.high.data() + ids.back() * kColumns,
                      with_low ? token_planes.low.data() + ids.back() * kColumns : nullptr});
    }
    Grid x(kTokens, kColumns, 3);
    embed(rows, {position_planes.high.data(), with_low ? position_planes.low.data() : nullptr, 8, kColumns},
          kSequence, x.view());
    const auto value = [&](const std::vector<float>& exact, const Planes& planes, int64_t i) {
      const auto at = static_cast<size_t>(i);
      return with_low ? exact[at] : std::bit_cast<float>(uint32_t{planes.high[at]} << 16);
    };
    for (int64_t t = 0; t < kTokens; t++) {
      for (int64_t i = 0; i < kColumns; i++) {
        EXPECT_EQ(x.at(t, i), value(tokens, token_planes, ids[static_cast<size_t>(t)] * kColumns + i) +
                                  value(positions, position_planes, t % kSequence * kColumns + i));
      }
    }
  }
}

constexpr int64_t kVocabulary = 23, kColumns = 77, kSequence = 40, kTokens = 200;

// Both gradients with `tokens` a call and the vocabulary in blocks of `rows`.
std::vector<float> gradients(const Grid& dx, const std::vector<int32_t>& ids, int64_t tokens, int64_t rows) {
  Grid dw(kVocabulary, kColumns), dposition(kSequence, kColumns, 1);
  for (int64_t r = 0; r < kVocabulary; r++) std::fill_n(dw.view().row(r), kColumns, 0.0F);
  for (int64_t t = 0; t < kTokens; t += tokens) {
    const ConstMatrix part = dx.view().row_range(t, std::min(tokens, kTokens - t));
    for (int64_t r = 0; r < kVocabulary; r += rows) {
      embed_backward(part, std::span(ids).subspan(static_cast<size_t>(t), static_cast<size_t>(part.rows)), r,
                     dw.view().row_range(r, std::min(rows, kVocabulary - r)));
    }
    position_backward(part, kSequence, dposition.view(), t > 0);
  }
  std::vector<float> values = dw.values();
  for (const float value : dposition.values()) values.push_back(value);
  return values;
}

TEST(Embedding, BackwardSumsInTokenOrderForAnyCut) {
  Random random;
  const Grid dx(random, kTokens, kColumns, 2);
  std::vector<int32_t> ids;
  for (int64_t t = 0; t < kTokens; t++) ids.push_back(static_cast<int32_t>(random.below(kVocabulary)));
  std::vector<float> dw(kVocabulary * kColumns), dposition(kSequence * kColumns);
  for (int64_t t = 0; t < kTokens; t++) {
    for (int64_t i = 0; i < kColumns; i++) {
      dw[static_cast<size_t>(ids[static_cast<size_t>(t)] * kColumns + i)] += dx.at(t, i);
      dposition[static_cast<size_t>(t % kSequence * kColumns + i)] += dx.at(t, i);
    }
  }
  std::vector<float> expected = dw;
  expected.insert(expected.end(), dposition.begin(), dposition.end());
  for (const int64_t tokens : {kTokens, 2 * kSequence, kSequence}) {
    for (const int64_t rows : {int64_t{23}, int64_t{7}, int64_t{1}}) {
      testing::expect_same_bits(gradients(dx, ids, tokens, rows), expected,
                                std::to_string(tokens) + " tokens, " + std::to_string(rows) + " rows");
    }
  }
  testing::expect_same_bits_everywhere([&] { return gradients(dx, ids, kTokens, 8); });
}

}  // namespace
}  // namespace headrace::math

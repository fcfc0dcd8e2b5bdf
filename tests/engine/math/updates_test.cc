// What holds of every update: pruned weights, cuts, threads and vector targets.
#include "engine/math/updates.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "engine/math/kernels.h"
#include "tests/engine/math/kernel_testing.h"

namespace headrace::math {
namespace {

using testing::Random;

struct Parameters {
  std::vector<uint16_t> high, low;
  std::vector<float> moment1, moment2;  // or scales
  std::vector<int8_t> code1;
  std::vector<uint8_t> code2;

  explicit Parameters(const std::vector<float>& weight)
      : high(weight.size()),
        low(weight.size()),
        moment1(weight.size()),
        moment2(weight.size()),
        code1(weight.size()),
        code2(weight.size()) {
    split_planes(weight.data(), std::ssize(weight), high.data(), low.data());
  }
  std::vector<float> weight() const {
    std::vector<float> joined(high.size());
    join_planes(high.data(), low.data(), std::ssize(high), joined.data());
    return joined;
  }
};

constexpr GradientTerms kTerms{.scale = 0.7F, .l1 = 0.01, .l2 = 0.02};

struct Update {
  const char* name;
  // Of elements [first, first + n).
  std::function<void(Parameters&, const float* gradient, int64_t first, int64_t n)> run;
  int64_t group = 1;  // elements whose moments depend on each other
};

const std::vector<Update>& updates() {
  static const std::vector<Update> all{
      {"adamw",
       [](Parameters& p, const float* gradient, int64_t first, int64_t n) {
         adamw({.lr = 0.1, .weight_decay = 0.1, .terms = kTerms}, gradient + first, n, p.high.data() + first,
               p.low.data() + first, p.moment1.data() + first, p.moment2.data() + first);
       }},
      {"adamw8bit",
       [](Parameters& p, const float* gradient, int64_t first, int64_t n) {
         const int64_t group = first / kMomentGroup;
         adamw8bit({.lr = 0.1, .weight_decay = 0.1, .terms = kTerms}, 3, gradient + first, n,
                   p.high.data() + first, p.low.data() + first,
                   {.code1 = p.code1.data() + first,
                    .code2 = p.code2.data() + first,
                    .scale1 = p.moment1.data() + group,
                    .scale2 = p.moment2.data() + group});
       },
       kMomentGroup},
      {"sgd",
       [](Parameters& p, const float* gradient, int64_t first, int64_t n) {
         sgd({.lr = 0.1, .terms = kTerms}, gradient + first, n, p.high.data() + first, p.low.data() + first,
             nullptr);
       }},
      {"sgd with momentum",
       [](Parameters& p, const float* gradient, int64_t first, int64_t n) {
         sgd({.lr = 0.1, .momentum = 0.9, .nesterov = true, .terms = kTerms}, gradient + first, n,
             p.high.data() + first, p.low.data() + first, p.moment1.data() + first);
       }},
      {"lion",
       [](Parameters& p, const float* gradient, int64_t first, int64_t n) {
         lion({.lr = 0.1, .weight_decay = 0.1, .terms = kTerms}, gradient + first, n, p.high.data() + first,
              p.low.data() + first, p.moment1.data() + first);
       }},
  };
  return all;
}

TEST(Updates, LeavePrunedWeightsAndClearTheirMoments) {
  constexpr int64_t kCount = 531;
  for (const Update& update : updates()) {
    Random random;
    std::vector<float> start = random.normals(kCount);
    for (size_t i = 0; i < start.size(); i += 3) start[i] = -0.0F;
    Parameters p(start);
    p.moment1 = random.normals(kCount);
    p.moment2.assign(kCount, 0.5F);
    const std::string name = update.name;
    const bool first_moment = name != "sgd" && name != "adamw8bit", second = name == "adamw";
    const std::vector<float> gradient = random.normals(kCount);
    for (int step = 0; step < 3; step++) update.run(p, gradient.data(), 0, kCount);
    const std::vector<float> after = p.weight();
    for (size_t i = 0; i < start.size(); i++) {
      if (i % 3 != 0) {
        EXPECT_NE(after[i], start[i]) << update.name << " " << i;
        continue;
      }
      EXPECT_TRUE(after[i] == 0 && std::signbit(after[i])) << update.name << " " << i;
      EXPECT_TRUE(!first_moment || p.moment1[i] == 0) << update.name << " " << i;
      EXPECT_TRUE(p.code1[i] == 0 && p.code2[i] == 0) << update.name << " " << i;
      EXPECT_TRUE(!second || p.moment2[i] == 0) << update.name << " " << i;
    }
  }
}

// w = lr * d exactly: w - lr * d is a zero, and w (1 - lr wd) may round to one.
TEST(Updates, MakeNoNegativeZeroOfALivingWeight) {
  for (const float tiny : {-1e-45F, 1e-45F, 0.0F}) {
    Parameters p(std::vector<float>(33, tiny));
    const std::vector<float> gradient(33, tiny);
    adamw({.lr = 0.9, .weight_decay = 1}, gradient.data(), 33, p.high.data(), p.low.data(), p.moment1.data(),
          p.moment2.data());
    for (const float w : p.weight()) EXPECT_FALSE(w == 0 && std::signbit(w)) << tiny;
    sgd({.lr = 1}, gradient.data(), 33, p.high.data(), p.low.data(), nullptr);
    for (const float w : p.weight()) EXPECT_FALSE(w == 0 && std::signbit(w)) << tiny;
  }
}

TEST(Updates, GiveZeroNoPenalty) {
  Parameters p(std::vector<float>(17, 0.0F));
  const std::vector<float> gradient(17);
  sgd({.lr = 1, .terms = {.l1 = 1, .l2 = 1}}, gradient.data(), 17, p.high.data(), p.low.data(), nullptr);
  testing::expect_same_bits(p.weight(), std::vector<float>(17), "weight");
}

TEST(Updates, HaveTheSameBitsForAnyCutThreadsAndTarget) {
  constexpr int64_t kCount = 40001;
  for (const Update& update : updates()) {
    Random random;
    const std::vector<float> start = random.normals(kCount), gradient = random.normals(kCount);
    const auto run = [&](int64_t cut) {
      Parameters p(start);
      for (int step = 0; step < 3; step++)
        for (int64_t i = 0; i < kCount; i += cut)
          update.run(p, gradient.data(), i, std::min(cut, kCount - i));
      std::vector<float> values = p.weight();
      values.insert(values.end(), p.moment1.begin(), p.moment1.end());
      values.insert(values.end(), p.moment2.begin(), p.moment2.end());
      values.insert(values.end(), p.code1.begin(), p.code1.end());
      values.insert(values.end(), p.code2.begin(), p.code2.end());
      return values;
    };
    for (const int64_t cut : {7, 256, 1000})
      testing::expect_same_bits(run(cut * update.group), run(kCount),
                                update.name + std::string(", cut ") + std::to_string(cut));
    testing::expect_same_bits_everywhere([&] { return run(kCount); });
  }
}

}  // namespace
}  // namespace headrace::math

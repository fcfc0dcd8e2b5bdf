// The updates of weights by their gradients. Plain functions over a piece of a tensor, in place; work is
// spread over the calling oneTBB arena; nothing is allocated. The result of an element depends on the
// operands at its place alone (of an 8-bit moment: on those of its group).
//
// Weights are the two planes of engine/math/kernels.h. A weight whose bits are those of -0.0 is pruned: it
// stays as it is, and its moments become zero. No update makes -0.0 of a weight that is not pruned.
#pragma once

#include <cstddef>
#include <cstdint>

namespace headrace::math {

// What every update does to the gradient first: scales it, for clipping, and then adds the gradient of
// l1 * sum |w| + l2 * sum w^2, which is l1 * sign(w) + 2 * l2 * w.
// Rates are doubles throughout, for PyTorch rounds 1 - beta2 and so on from doubles: in float 1 - 0.999F is
// 5e-5 off.
struct GradientTerms {
  float scale = 1;
  double l1 = 0, l2 = 0;
};

// --- AdamW (Loshchilov and Hutter 2019), as torch.optim.AdamW computes it; without decay it is Adam ---
struct AdamWStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0;
  double bias_correction1 = 1, bias_correction2 = 1;  // 1 - beta^step
  GradientTerms terms = {};
};
// weight -= lr * weight_decay * weight; m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
// weight -= lr / bias_correction1 * m / (sqrt(v) / sqrt(bias_correction2) + epsilon). All n elements.
void adamw(const AdamWStep& step, const float* gradient, int64_t n, uint16_t* high, uint16_t* low,
           float* moment1, float* moment2);

// --- The same with moments of 8 bits, quantised in groups of 256 elements (after Dettmers et al. 2022) ---
// A group keeps the largest |m| and the largest v as its scales s1 and s2, and of each element two codes:
//   c1 = sign(m) floor(127 sqrt(|m| / s1) + d1),   m is then sign(c1) (c1 / 127)^2 s1;
//   c2 = floor(255 (v / s2)^(1/4) + d2), at least 1 where v > 0,   v is then (c2 / 255)^4 s2,
// so that the root of v has the grid of m: fine where it is large, and reaching far down. The update itself
// takes the new moments before they are rounded.
//
// d is a dither from [0, 1) in place of the 1/2 of rounding to nearest. With beta2 = 0.999 a moment loses a
// thousandth in a step, from a code to the next a sixtieth at least: rounded to nearest, it would never come
// down again. The dither visits [0, 1) evenly from step to step (Weyl's sequence), so that over steps codes
// move as the moments do: d2 = fraction((step 0x9e3779b9 + i 0x6a09e667) / 2^32) in 16 bits for element i of
// a group, and d1 = fraction(d2 + 1/2).
inline constexpr int64_t kMomentGroup = 256;  // elements
struct Moments8bit {
  int8_t* code1 = nullptr;   // [n]
  uint8_t* code2 = nullptr;  // [n]
  float* scale1 = nullptr;   // [groups]
  float* scale2 = nullptr;
};
// Groups begin at the first element. `number` counts steps.
void adamw8bit(const AdamWStep& step, uint64_t number, const float* gradient, int64_t n, uint16_t* high,
               uint16_t* low, const Moments8bit& moments);

// --- Stochastic gradient descent, as torch.optim.SGD computes it ---
struct SgdStep {
  double lr = 0, momentum = 0;
  bool nesterov = false;
  GradientTerms terms = {};
};
// weight -= lr * d, where d = g without momentum (`moment` null), else b = momentum b + g, and d = b, or
// g + momentum b in Nesterov's way.
void sgd(const SgdStep& step, const float* gradient, int64_t n, uint16_t* high, uint16_t* low, float* moment);

// --- Lion (Chen et al. 2023) ---
struct LionStep {
  double lr = 0, beta1 = 0.9, beta2 = 0.99, weight_decay = 0;
  GradientTerms terms = {};
};
// weight -= lr * weight_decay * weight; weight -= lr * sign(beta1 m + (1 - beta1) g);
// m = beta2 m + (1 - beta2) g.
void lion(const LionStep& step, const float* gradient, int64_t n, uint16_t* high, uint16_t* low,
          float* moment);

}  // namespace headrace::math

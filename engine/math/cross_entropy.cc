#include <algorithm>
#include <limits>

#include "engine/math/exact.h"
#include "engine/math/kernels.h"
#include "engine/math/parallel.h"
#include "engine/math/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/math/cross_entropy.cc"
#include <hwy/foreach_target.h>

#include "engine/math/lanes-inl.h"

HWY_BEFORE_NAMESPACE();
namespace headrace::math::HWY_NAMESPACE {

constexpr int64_t kVocabularyPanel = 256;

// A panel of at most kVocabularyPanel logits into the running maximum and sum.
HWY_INLINE void softmax_fold_panel(const float* logits, int64_t n, SoftmaxState& state) {
  const float lowest = -std::numeric_limits<float>::infinity();
  const Floats missing = broadcast(lowest);
  const int64_t rest = n % kLanes, whole = n - rest;
  // The last, partial vector holds -infinity where there is no logit: its exponential is zero.
  const Floats tail = rest == 0 ? missing : load(logits + whole, rest, lowest);

  Floats most = tail;
  for (int64_t i = 0; i < whole; i += kLanes) most = max(most, load(logits + i));
  const float before = state.largest, after = std::max(before, largest(most));

  const Floats reference = broadcast(after);
  Floats total = exp(tail - reference);
  for (int64_t i = 0; i < whole; i += kLanes) total = total + exp(load(logits + i) - reference);
  // A vector exponential here too: the same bits as any other.
  HWY_ALIGN_MAX float scale[kLanes];
  store(exp(broadcast(before - after)), scale);
  state.sum = (before == after ? state.sum : state.sum * scale[0]) + sum(total);
  state.largest = after;
}

HWY_NOINLINE void softmax_fold_row(const float* logits, int64_t n, SoftmaxState* state) {
  for (int64_t i = 0; i < n; i += kVocabularyPanel) {
    softmax_fold_panel(logits + i, std::min(kVocabularyPanel, n - i), *state);
  }
}

// logits <- scale / sum * exp(logits - largest)
HWY_NOINLINE void softmax_scaled_row(float* logits, int64_t n, float scale, const SoftmaxState& state) {
  const Floats factor = broadcast(scale / state.sum), reference = broadcast(state.largest);
  for (int64_t i = 0; i < n; i += kLanes) {
    store(exp(load(logits + i, n - i) - reference) * factor, logits + i, n - i);
  }
}

}  // namespace headrace::math::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace headrace::math {
namespace {

HWY_EXPORT(softmax_fold_row);
HWY_EXPORT(softmax_scaled_row);

}  // namespace

void softmax_start(std::span<SoftmaxState> states) {
  std::fill(states.begin(), states.end(), SoftmaxState{-std::numeric_limits<float>::infinity(), 0, 0});
}

void softmax_fold(ConstMatrix logits, int64_t first, std::span<const int32_t> targets,
                  std::span<SoftmaxState> states) {
  HEADRACE_CHECK(std::ssize(targets) == logits.rows && std::ssize(states) == logits.rows);
  HEADRACE_CHECK(first % 256 == 0);
  parallel_rows(logits.rows, logits.columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      SoftmaxState& state = states[static_cast<size_t>(t)];
      HWY_DYNAMIC_DISPATCH(softmax_fold_row)(logits.row(t), logits.columns, &state);
      const int64_t target = targets[static_cast<size_t>(t)] - first;
      if (target >= 0 && target < logits.columns) state.target = logits.row(t)[target];
    }
  });
}

double cross_entropy_sum(std::span<const SoftmaxState> states, std::span<const int32_t> targets) {
  HEADRACE_CHECK(states.size() == targets.size());
  double total = 0;
  for (size_t t = 0; t < states.size(); t++) {
    if (targets[t] < 0) continue;
    const SoftmaxState& state = states[t];
    total += exact_log(static_cast<double>(state.sum)) +
             (static_cast<double>(state.largest) - static_cast<double>(state.target));
  }
  return total;
}

void cross_entropy_backward(Matrix logits, int64_t first, std::span<const int32_t> targets,
                            std::span<const SoftmaxState> states, float scale) {
  HEADRACE_CHECK(std::ssize(targets) == logits.rows && std::ssize(states) == logits.rows);
  parallel_rows(logits.rows, logits.columns, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; t++) {
      if (targets[static_cast<size_t>(t)] < 0) {
        std::fill_n(logits.row(t), logits.columns, 0.0F);
        continue;
      }
      const SoftmaxState& state = states[static_cast<size_t>(t)];
      HWY_DYNAMIC_DISPATCH(softmax_scaled_row)(logits.row(t), logits.columns, scale, state);
      const int64_t target = targets[static_cast<size_t>(t)] - first;
      if (target >= 0 && target < logits.columns) logits.row(t)[target] -= scale;
    }
  });
}

}  // namespace headrace::math
#endif  // HWY_ONCE

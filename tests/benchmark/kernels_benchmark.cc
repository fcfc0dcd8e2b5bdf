// The kernels beside the matrix products at GPT-2 small's sizes: attention beside the rate of plain
// multiply-adds on the same threads, the others beside a copy of memory, alternating within each round.
//
//   kernels_benchmark [--rounds N] [--threads N] [--tokens N] [--only TEXT]
//
// Minimum/median/maximum of the rounds; the ratio is to the ceiling of the same round. Bytes are those that a
// kernel has to read and write.
#include <oneapi/tbb/parallel_for.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "engine/math/gemm.h"
#include "engine/math/kernels.h"
#include "engine/math/random.h"
#include "engine/math/updates.h"

namespace {

using namespace headrace::math;

struct Options {
  int rounds = 9, threads = 2;
  int64_t tokens = 1024;
  std::string only;
};

struct Buffer {
  std::vector<float> values;

  explicit Buffer(int64_t count) : values(static_cast<size_t>(count) + 16) {
    static uint64_t stream = 0;
    fill_normal(1, stream++, 0, count, 0, 1, values.data());
  }
  float* data() {
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(values.data()) + 63) / 64 * 64);
  }
  Matrix matrix(int64_t rows, int64_t columns) { return {data(), rows, columns, columns}; }
};

double seconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::string spread(std::vector<double> values, const char* format) {
  std::sort(values.begin(), values.end());
  std::string text;
  for (const double value : {values.front(), values[values.size() / 2], values.back()}) {
    char number[32];
    std::snprintf(number, sizeof(number), format, value);
    if (!text.empty()) text += '/';
    text += number;
  }
  return text;
}

class Bench {
 public:
  explicit Bench(Options options) : options_(std::move(options)) {}

  // `amount`: 1e9 operations or bytes of a run, of which the ceiling does `ceiling_amount`.
  void run(const std::string& name, const char* unit, double amount, const std::function<void()>& work,
           double ceiling_amount, const std::function<void()>& ceiling) {
    if (name.find(options_.only) == std::string::npos) return;
    work();
    ceiling();
    std::vector<double> rates, ratios;
    for (int round = 0; round < options_.rounds; round++) {
      const double best = ceiling_amount / seconds(ceiling);
      rates.push_back(amount / seconds(work));
      ratios.push_back(rates.back() / best);
    }
    std::printf("%-22s %20s %-8s ratio %s\n", name.c_str(), spread(rates, "%.1f").c_str(), unit,
                spread(ratios, "%.2f").c_str());
  }

 private:
  Options options_;
};

// The engine's best product stands for plain multiply-adds.
struct GemmCeiling {
  static constexpr int64_t kSize = 1024;
  Buffer x{kSize * kSize}, y{kSize * kSize};
  std::vector<uint16_t> high = std::vector<uint16_t>(kSize * kSize);
  std::vector<std::byte> workspace =
      std::vector<std::byte>(gemm_nt_workspace_bytes(kSize, kSize, kSize) + 64);

  static double work() { return 2e-9 * kSize * kSize * kSize; }
  void operator()() {
    auto* aligned =
        reinterpret_cast<std::byte*>((reinterpret_cast<uintptr_t>(workspace.data()) + 63) / 64 * 64);
    gemm_nt(x.matrix(kSize, kSize), {high.data(), nullptr, kSize, kSize}, nullptr, y.matrix(kSize, kSize),
            {aligned, workspace.size() - 64});
  }
};

// Reads and writes 2 x 64 MiB.
struct CopyCeiling {
  static constexpr int64_t kCount = 1 << 24;
  Buffer from{kCount}, to{kCount};

  static double work() { return 8e-9 * kCount; }
  void operator()() {
    constexpr int64_t kPart = 1 << 16;
    oneapi::tbb::parallel_for(int64_t{0}, kCount / kPart, [&](int64_t part) {
      std::memcpy(to.data() + part * kPart, from.data() + part * kPart, sizeof(float) * kPart);
    });
  }
};

void attention_benchmarks(Bench& bench, int64_t tokens) {
  const AttentionShape shape{tokens, 12, 64};
  const int64_t width = shape.heads * shape.head_size;
  Buffer qkv(tokens * 3 * width), out(tokens * width), lse(tokens * shape.heads), dout(tokens * width),
      dqkv(tokens * 3 * width);
  Buffer scratch(static_cast<int64_t>(attention_workspace_bytes(shape) / sizeof(float)));
  const std::span<std::byte> workspace(reinterpret_cast<std::byte*>(scratch.data()),
                                       attention_workspace_bytes(shape));
  const auto work = 2e-9 * static_cast<double>(width * tokens * (tokens + 1));
  GemmCeiling gemm;
  const std::function<void()> ceiling = [&] { gemm(); };
  bench.run(
      "attention", "GFLOP/s", work,
      [&] {
        attention(qkv.matrix(tokens, 3 * width), shape, out.matrix(tokens, width),
                  lse.matrix(tokens, shape.heads), workspace);
      },
      GemmCeiling::work(), ceiling);
  bench.run(
      "attention_backward", "GFLOP/s", 2.5 * work,
      [&] {
        attention_backward(qkv.matrix(tokens, 3 * width), shape, out.matrix(tokens, width),
                           lse.matrix(tokens, shape.heads), dout.matrix(tokens, width),
                           dqkv.matrix(tokens, 3 * width), workspace);
      },
      GemmCeiling::work(), ceiling);
}

void row_benchmarks(Bench& bench, int64_t tokens) {
  constexpr int64_t kWidth = 768, kHidden = 4 * kWidth;
  CopyCeiling copy;
  const std::function<void()> ceiling = [&] { copy(); };
  Buffer x(tokens * kHidden), y(tokens * kHidden), dy(tokens * kHidden), weight(kWidth), bias(kWidth);
  Buffer scratch(tokens * 4);
  const std::span<std::byte> workspace(reinterpret_cast<std::byte*>(scratch.data()),
                                       layer_norm_backward_workspace_bytes(tokens, kWidth, tokens));
  const double narrow = 4e-9 * static_cast<double>(tokens * kWidth), wide = 4 * narrow;
  const auto run = [&](const char* name, double bytes, const std::function<void()>& work) {
    bench.run(name, "GB/s", bytes, work, CopyCeiling::work(), ceiling);
  };
  run("layer_norm", 2 * narrow, [&] {
    layer_norm(x.matrix(tokens, kWidth), weight.data(), bias.data(), 1e-5F, y.matrix(tokens, kWidth));
  });
  run("layer_norm_backward", 5 * narrow, [&] {
    layer_norm_backward(x.matrix(tokens, kWidth), weight.data(), 1e-5F, dy.matrix(tokens, kWidth), tokens,
                        y.matrix(tokens, kWidth), false, weight.data(), bias.data(), false, workspace);
  });
  run("gelu", 2 * wide, [&] { gelu(x.matrix(tokens, kHidden), y.matrix(tokens, kHidden)); });
  run("gelu_backward", 3 * wide, [&] {
    gelu_backward(x.matrix(tokens, kHidden), dy.matrix(tokens, kHidden), y.matrix(tokens, kHidden));
  });
  run("add", 3 * narrow,
      [&] { add(x.matrix(tokens, kWidth), dy.matrix(tokens, kWidth), y.matrix(tokens, kWidth)); });
}

void vocabulary_benchmarks(Bench& bench, int64_t tokens) {
  constexpr int64_t kVocabulary = 50257;
  CopyCeiling copy;
  const std::function<void()> ceiling = [&] { copy(); };
  Buffer logits(tokens * kVocabulary);
  std::vector<int32_t> targets(static_cast<size_t>(tokens), 17);
  std::vector<SoftmaxState> states(static_cast<size_t>(tokens));
  const Matrix all = logits.matrix(tokens, kVocabulary);
  const double bytes = 4e-9 * static_cast<double>(tokens * kVocabulary);
  softmax_start(states);
  bench.run(
      "softmax_fold", "GB/s", bytes, [&] { softmax_fold(all, 0, targets, states); }, CopyCeiling::work(),
      ceiling);
  bench.run(
      "cross_entropy_backward", "GB/s", 2 * bytes,
      [&] { cross_entropy_backward(all, 0, targets, states, 1); }, CopyCeiling::work(), ceiling);
}

void parameter_benchmarks(Bench& bench) {
  constexpr int64_t kCount = 1 << 24;
  CopyCeiling copy;
  const std::function<void()> ceiling = [&] { copy(); };
  Buffer gradient(kCount), moment1(kCount), moment2(kCount), weight(kCount);
  for (int64_t i = 0; i < kCount; i++) moment2.data()[i] *= moment2.data()[i];
  std::vector<uint16_t> high(kCount), low(kCount);
  const auto run = [&](const char* name, double bytes, const std::function<void()>& work) {
    bench.run(name, "GB/s", bytes * 1e-9 * kCount, work, CopyCeiling::work(), ceiling);
  };
  run("split_planes", 8, [&] { split_planes(weight.data(), kCount, high.data(), low.data()); });
  run("join_planes", 8, [&] { join_planes(high.data(), low.data(), kCount, weight.data()); });
  run("adamw", 28, [&] {
    adamw({.lr = 1e-4, .bias_correction1 = 0.5, .bias_correction2 = 0.1}, gradient.data(), kCount,
          high.data(), low.data(), moment1.data(), moment2.data());
  });
  run("sum_of_squares", 4, [&] {
    if (sum_of_squares(weight.data(), kCount) < 0) std::abort();
  });
  run("all_finite", 4, [&] {
    if (!all_finite(weight.data(), kCount)) std::abort();
  });
  run("fill_normal", 4, [&] { fill_normal(1, 2, 0, kCount, 0, 0.02F, weight.data()); });
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    if (flag == "--rounds") options.rounds = std::max(1, std::atoi(argv[i + 1]));
    if (flag == "--threads") options.threads = std::max(1, std::atoi(argv[i + 1]));
    if (flag == "--tokens") options.tokens = std::max(1, std::atoi(argv[i + 1]));
    if (flag == "--only") options.only = argv[i + 1];
  }
  oneapi::tbb::task_arena arena(options.threads);
  arena.execute([&] {
    Bench bench(options);
    attention_benchmarks(bench, options.tokens);
    row_benchmarks(bench, options.tokens);
    vocabulary_benchmarks(bench, options.tokens);
    parameter_benchmarks(bench);
  });
  return 0;
}

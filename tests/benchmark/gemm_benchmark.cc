// Our matrix products beside oneDNN, OpenBLAS and BLIS on the same operands, alternating within each round.
//
//   gemm_benchmark [--rounds N] [--threads N] [--clock wall|cpu] [--only TEXT]
//
// Ours expands the weight from its planes in every call, the libraries get plain floats. A line names the
// product, tokens, [out, in] and, where ours runs in row blocks of the weight as the engine does, the rows of
// a block; the libraries always get the whole weight. Numbers are GFLOP/s, minimum/median/maximum of the
// rounds; the ratio is ours to the best library of the same round. On a machine that others use, `--clock
// cpu` counts the processor seconds of all threads instead; it does not see threads that wait for each other.
#include <dlfcn.h>
#include <oneapi/tbb/task_arena.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "engine/math/gemm.h"

namespace {

using headrace::math::Accumulate;
using headrace::math::ConstMatrix;
using headrace::math::Matrix;
using headrace::math::WeightView;

struct Options {
  int rounds = 9, threads = 2;
  bool cpu_clock = false;
  std::string only;
};

// C = op(A) op(B) + beta C, row-major.
using Sgemm =
    std::function<void(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, const float* a,
                       int64_t lda, const float* b, int64_t ldb, float beta, float* c, int64_t ldc)>;

struct Library {
  std::string name;
  Sgemm sgemm;
};

// Loaded by path and kept apart, because OpenBLAS and BLIS define the same symbols.
void* load(const char* path) {
  void* handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    std::fprintf(stderr, "gemm_benchmark: cannot load a ceiling: %s\n", dlerror());
    std::exit(1);
  }
  return handle;
}

template <class Function>
Function symbol(void* handle, const char* name) {
  void* address = dlsym(handle, name);
  if (address == nullptr) {
    std::fprintf(stderr, "gemm_benchmark: a ceiling lacks %s: %s\n", name, dlerror());
    std::exit(1);
  }
  return reinterpret_cast<Function>(address);
}

Library onednn() {
  using Function = int (*)(char, char, int64_t, int64_t, int64_t, float, const float*, int64_t, const float*,
                           int64_t, float, float*, int64_t);
  const auto sgemm = symbol<Function>(load("libdnnl.so.2"), "dnnl_sgemm");
  return {"oneDNN", [sgemm](bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                            const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
            sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', m, n, k, 1.0f, a, lda, b, ldb, beta, c, ldc);
          }};
}

Library cblas(const char* name, const char* path) {
  using Function =
      void (*)(int, int, int, int, int, int, float, const float*, int, const float*, int, float, float*, int);
  const auto sgemm = symbol<Function>(load(path), "cblas_sgemm");
  return {name, [sgemm](bool ta, bool tb, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda,
                        const float* b, int64_t ldb, float beta, float* c, int64_t ldc) {
            constexpr int kRowMajor = 101, kNoTranspose = 111, kTranspose = 112;
            sgemm(kRowMajor, ta ? kTranspose : kNoTranspose, tb ? kTranspose : kNoTranspose,
                  static_cast<int>(m), static_cast<int>(n), static_cast<int>(k), 1.0f, a,
                  static_cast<int>(lda), b, static_cast<int>(ldb), beta, c, static_cast<int>(ldc));
          }};
}

std::vector<float> random_floats(int64_t count) {
  static std::mt19937 generator(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = uniform(generator);
  return values;
}

enum class Form { kNt, kNn, kTn };
constexpr std::array<const char*, 3> kFormNames = {"nt", "nn", "tn"};

struct Case {
  Form form;
  int64_t tokens, out, in, block_rows;

  std::string name() const {
    char text[96];
    std::snprintf(text, sizeof(text), "%s %ld [%ld, %ld]", kFormNames[static_cast<size_t>(form)], tokens, out,
                  in);
    if (block_rows < out) return std::string(text) + "/" + std::to_string(block_rows);
    return text;
  }
};

class Operands {
 public:
  explicit Operands(const Case& shape)
      : shape_(shape),
        x_(random_floats(shape.tokens * shape.in)),
        y_(random_floats(shape.tokens * shape.out)),
        w_(random_floats(shape.out * shape.in)) {
    for (const float value : w_) {
      const uint32_t bits = std::bit_cast<uint32_t>(value);
      high_.push_back(static_cast<uint16_t>((bits + 0x8000) >> 16));
      low_.push_back(static_cast<uint16_t>(bits));
    }
    namespace math = headrace::math;
    const size_t bytes = std::max({math::gemm_nt_workspace_bytes(shape.tokens, shape.block_rows, shape.in),
                                   math::gemm_nn_workspace_bytes(shape.tokens, shape.block_rows, shape.in),
                                   math::gemm_tn_workspace_bytes(shape.tokens, shape.block_rows, shape.in)});
    storage_.resize(bytes + 64);
    void* start = storage_.data();
    size_t space = storage_.size();
    workspace_ = {static_cast<std::byte*>(std::align(64, bytes, start, space)), bytes};
  }

  void run_ours() {
    const Matrix x{x_.data(), shape_.tokens, shape_.in, shape_.in};
    const Matrix y{y_.data(), shape_.tokens, shape_.out, shape_.out};
    const Matrix dw{w_.data(), shape_.out, shape_.in, shape_.in};
    for (int64_t first = 0; first < shape_.out; first += shape_.block_rows) {
      const int64_t rows = std::min(shape_.block_rows, shape_.out - first);
      const int64_t offset = first * shape_.in;
      const WeightView w{high_.data() + offset, low_.data() + offset, rows, shape_.in};
      const Matrix y_block = y.column_range(first, rows);
      if (shape_.form == Form::kNt) gemm_nt(x, w, nullptr, y_block, workspace_);
      if (shape_.form == Form::kNn) gemm_nn(y_block, w, x, Accumulate::kYes, workspace_);
      if (shape_.form == Form::kTn) {
        gemm_tn(y_block, x, shape_.tokens, dw.row_range(first, rows), Accumulate::kYes, workspace_);
      }
    }
  }

  void run(const Library& library) {
    const int64_t tokens = shape_.tokens, out = shape_.out, in = shape_.in;
    float *x = x_.data(), *y = y_.data(), *w = w_.data();
    if (shape_.form == Form::kNt) library.sgemm(false, true, tokens, out, in, x, in, w, in, 0, y, out);
    if (shape_.form == Form::kNn) library.sgemm(false, false, tokens, in, out, y, out, w, in, 1, x, in);
    if (shape_.form == Form::kTn) library.sgemm(true, false, out, in, tokens, y, out, x, in, 1, w, in);
  }

 private:
  Case shape_;
  std::vector<float> x_, y_, w_;
  std::vector<uint16_t> high_, low_;
  std::vector<std::byte> storage_;
  std::span<std::byte> workspace_;
};

double seconds_now(bool cpu_clock) {
  timespec time{};
  clock_gettime(cpu_clock ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// GFLOP/s of calls that together take at least some milliseconds, after one that warms the caches.
template <class Call>
double rate(const Case& shape, const Options& options, const Call& call) {
  const double products = 2.0 * static_cast<double>(shape.tokens * shape.out * shape.in);
  call();
  const double start = seconds_now(options.cpu_clock);
  double seconds = 0;
  int calls = 0;
  while (seconds < 0.004) {
    call();
    calls++;
    seconds = seconds_now(options.cpu_clock) - start;
  }
  if (options.cpu_clock) seconds /= options.threads;
  return products * calls / seconds / 1e9;
}

struct Spread {
  double least, median, most;
  explicit Spread(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    least = values.front();
    median = values[values.size() / 2];
    most = values.back();
  }
};

void measure(const Case& shape, const std::vector<Library>& libraries, const Options& options,
             oneapi::tbb::task_arena& arena) {
  if (shape.name().find(options.only) == std::string::npos) return;
  Operands operands(shape);
  std::vector<std::vector<double>> rates(libraries.size() + 1);
  std::vector<double> ratios;
  for (int round = 0; round < options.rounds; round++) {
    const double ours = rate(shape, options, [&] { arena.execute([&] { operands.run_ours(); }); });
    rates[0].push_back(ours);
    double best = 0;
    for (size_t i = 0; i < libraries.size(); i++) {
      rates[i + 1].push_back(rate(shape, options, [&] { operands.run(libraries[i]); }));
      best = std::max(best, rates[i + 1].back());
    }
    ratios.push_back(ours / best);
  }
  std::printf("%-24s", shape.name().c_str());
  for (const auto& of_one : rates) {
    const Spread spread(of_one);
    std::printf(" %4.0f/%4.0f/%4.0f", spread.least, spread.median, spread.most);
  }
  const Spread ratio(ratios);
  std::printf("   %4.2f/%4.2f/%4.2f\n", ratio.least, ratio.median, ratio.most);
  std::fflush(stdout);
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--rounds") == 0) options.rounds = std::max(1, std::atoi(argv[i + 1]));
    if (std::strcmp(argv[i], "--threads") == 0) options.threads = std::max(1, std::atoi(argv[i + 1]));
    if (std::strcmp(argv[i], "--clock") == 0) options.cpu_clock = std::strcmp(argv[i + 1], "cpu") == 0;
    if (std::strcmp(argv[i], "--only") == 0) options.only = argv[i + 1];
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const Options options = parse(argc, argv);
  // Before the libraries are loaded: their pools must not spin while another one is measured.
  const std::string threads = std::to_string(options.threads);
  for (const char* variable : {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "BLIS_NUM_THREADS"}) {
    setenv(variable, threads.c_str(), 1);
  }
  setenv("OMP_WAIT_POLICY", "passive", 1);
  setenv("GOMP_SPINCOUNT", "0", 1);
  setenv("OPENBLAS_THREAD_TIMEOUT", "4", 1);
  const std::vector<Library> libraries = {
      onednn(), cblas("OpenBLAS", "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"),
      cblas("BLIS", "/usr/lib/x86_64-linux-gnu/blis-openmp/libblis.so.4")};
  oneapi::tbb::task_arena arena(options.threads);

  std::printf("%-24s %-14s", "GFLOP/s", "ours");
  for (const Library& library : libraries) std::printf(" %-14s", library.name.c_str());
  std::printf("   ours / best\n");
  for (const int64_t tokens : {1024, 256}) {
    for (const Form form : {Form::kNt, Form::kNn, Form::kTn}) {
      for (const auto [out, in] : {std::array<int64_t, 2>{256, 768}, {512, 768}, {256, 3072}, {512, 3072}}) {
        measure({form, tokens, out, in, out}, libraries, options, arena);
      }
      for (const auto [out, in] : {std::array<int64_t, 2>{2304, 768}, {768, 768}, {3072, 768}, {768, 3072}}) {
        for (const int64_t block_rows : {out, int64_t{512}, int64_t{256}}) {
          measure({form, tokens, out, in, block_rows}, libraries, options, arena);
        }
      }
    }
  }
}

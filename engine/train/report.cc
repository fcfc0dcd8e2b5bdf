#include "engine/train/report.h"

#include <fmt/format.h>

#include <cmath>

namespace headrace::train {
namespace {

std::string exact(double value) { return std::isfinite(value) ? fmt::format("{:.17g}", value) : "null"; }
std::string timing(double value) { return std::isfinite(value) ? fmt::format("{:.6f}", value) : "null"; }

}  // namespace

std::string metrics_line(const StepReport& r) {
  const double rate = r.seconds > 0 ? static_cast<double>(r.tokens) / r.seconds : 0;
  return fmt::format(
      R"({{"step":{},"loss":{},"lr":{},"grad_norm":{},"tokens":{},"seconds":{},"tokens_per_second":{},)"
      R"("read_bytes":{},"written_bytes":{},"compute_seconds":{},"read_wait_seconds":{},)"
      R"("write_wait_seconds":{},"rss_bytes":{}{}{}}})",
      r.step, exact(r.loss), exact(r.lr), exact(r.grad_norm), r.tokens, timing(r.seconds), timing(rate),
      r.read_bytes, r.written_bytes, timing(r.compute_seconds), timing(r.read_wait_seconds),
      timing(r.write_wait_seconds), r.rss_bytes,
      r.sparsity ? fmt::format(R"(,"sparsity":{})", exact(*r.sparsity)) : "",
      r.skipped ? R"(,"skipped":true)" : "");
}

}  // namespace headrace::train

#include "tools/eval_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

namespace headrace::tools {
namespace {

using train::EvalSummary;
using train::Task;

constexpr uint64_t kMostShown = 32;  // classes of a confusion matrix for people

double ratio(uint64_t part, uint64_t whole) { return whole == 0 ? 0 : double(part) / double(whole); }

double accuracy(const EvalSummary& s) {
  return s.task == Task::kBinary ? ratio(s.metrics.right, s.metrics.values)
                                 : ratio(s.metrics.right, s.metrics.rows);
}

double bits(const EvalSummary& s) { return s.loss / std::log(2.0); }  // of a token, which is a byte

struct ClassCounts {
  uint64_t count = 0, predicted = 0, right = 0;  // true ones, predicted ones, both
  double precision() const { return ratio(right, predicted); }
  double recall() const { return ratio(right, count); }
};

std::vector<ClassCounts> class_counts(const std::vector<uint64_t>& confusion) {
  const auto classes = size_t(std::llround(std::sqrt(double(confusion.size()))));
  std::vector<ClassCounts> counts(classes);
  for (size_t i = 0; i < confusion.size(); i++) {
    const size_t truth = i / classes, predicted = i % classes;
    counts[truth].count += confusion[i];
    counts[predicted].predicted += confusion[i];
    if (truth == predicted) counts[truth].right = confusion[i];
  }
  return counts;
}

}  // namespace

std::string eval_line(const EvalSummary& s) {
  switch (s.task) {
    case Task::kNextToken:
      return fmt::format("loss {:.6f}, perplexity {:.4f}, {:.4f} bits a byte", s.loss, s.perplexity, bits(s));
    case Task::kClassification:
    case Task::kBinary:
      return fmt::format("loss {:.6f}, accuracy {:.2f}%", s.loss, 100 * accuracy(s));
    case Task::kRegression:
      break;
  }
  return fmt::format("mean squared error {:.6g}, mean absolute error {:.6g}", s.loss,
                     s.metrics.absolute_error / double(std::max<uint64_t>(s.metrics.values, 1)));
}

std::string class_table(const EvalSummary& s) {
  if (s.task != Task::kClassification || s.metrics.confusion.empty()) return {};
  const std::vector<ClassCounts> counts = class_counts(s.metrics.confusion);
  std::string text = "class    count  precision  recall\n";
  for (size_t c = 0; c < counts.size(); c++)
    text += fmt::format("{:>5} {:>8} {:>9.1f}% {:>6.1f}%\n", c, counts[c].count, 100 * counts[c].precision(),
                        100 * counts[c].recall());
  if (counts.size() > kMostShown) return text;
  const uint64_t most = *std::max_element(s.metrics.confusion.begin(), s.metrics.confusion.end());
  const size_t width = std::max<size_t>(fmt::format("{}", most).size(), 2) + 1;
  text += "confusion: a row for each true class, a column for each predicted one\n     ";
  for (size_t c = 0; c < counts.size(); c++) text += fmt::format("{:>{}}", c, width);
  for (size_t i = 0; i < s.metrics.confusion.size(); i++) {
    if (i % counts.size() == 0) text += fmt::format("\n{:>5}", i / counts.size());
    text += fmt::format("{:>{}}", s.metrics.confusion[i], width);
  }
  return text + "\n";
}

void add_eval_fields(const EvalSummary& s, nlohmann::ordered_json& json) {
  json["loss"] = s.loss;
  switch (s.task) {
    case Task::kNextToken:
      json["perplexity"] = s.perplexity;
      json["bits_per_byte"] = bits(s);
      break;
    case Task::kClassification:
    case Task::kBinary:
      json["accuracy"] = accuracy(s);
      break;
    case Task::kRegression:
      json["mean_squared_error"] = s.loss;
      json["mean_absolute_error"] =
          s.metrics.absolute_error / double(std::max<uint64_t>(s.metrics.values, 1));
      break;
  }
  json[s.task == Task::kNextToken ? "tokens" : "samples"] = s.tokens;
  if (s.task != Task::kClassification || s.metrics.confusion.empty()) return;
  const std::vector<ClassCounts> counts = class_counts(s.metrics.confusion);
  auto classes = nlohmann::ordered_json::array(), confusion = nlohmann::ordered_json::array();
  for (size_t c = 0; c < counts.size(); c++) {
    classes.push_back({{"class", c},
                       {"count", counts[c].count},
                       {"precision", counts[c].precision()},
                       {"recall", counts[c].recall()}});
    const auto row = s.metrics.confusion.begin() + ptrdiff_t(c * counts.size());
    confusion.push_back(std::vector<uint64_t>(row, row + ptrdiff_t(counts.size())));
  }
  json["classes"] = std::move(classes);
  json["confusion"] = std::move(confusion);
}

}  // namespace headrace::tools

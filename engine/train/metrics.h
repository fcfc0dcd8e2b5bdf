// What an evaluation counts beside the loss, by the task of the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace headrace::train {

enum class Task : uint8_t {
  kNextToken,       // perplexity
  kClassification,  // accuracy, confusion
  kBinary,          // accuracy of each output against its 0 or 1
  kRegression,      // mean absolute error
};

// Sums over rows, so that batches can be added to each other.
struct Metrics {
  uint64_t rows = 0;                     // that counted; 0: all
  std::vector<uint64_t> confusion = {};  // of kClassification: [true class, predicted class]
  double absolute_error = 0;             // of kRegression, over all values
  uint64_t right = 0, values = 0;  // rows, of kBinary outputs, that are right; values, also of kRegression

  void add(const Metrics& other) {
    rows += other.rows;
    confusion.resize(other.confusion.size());
    for (size_t i = 0; i < confusion.size(); i++) confusion[i] += other.confusion[i];
    absolute_error += other.absolute_error;
    right += other.right;
    values += other.values;
  }
};

}  // namespace headrace::train

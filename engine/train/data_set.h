// Where the rows of a training or an evaluation come from: an open source of batches.
//
// Threads: the fetching functions may be called from several threads at once, into different batches.
// Failure: Error. Faults of the data that can be seen when they are opened are kUsage, and thrown then; data
// that change or fail later, kFailed.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/train/batch.h"

namespace headrace::train {

// What a model must know of its data.
struct DataShape {
  uint64_t samples = 0;          // sequences, rows, nodes
  uint64_t feature_columns = 0;  // 0: rows are tokens
  uint64_t classes = 0;          // labels are below it; 0: targets are values, or tokens
  uint64_t value_columns = 0;
};

class DataSet {
 public:
  virtual ~DataSet() = default;
  virtual DataShape shape() const = 0;
  virtual std::string description() const = 0;  // "60000 samples of 784 features in 10 classes"
  // A text that tells changed or other data from the run's own.
  virtual const std::string& fingerprint() const = 0;
  // The batch of the training step that has `step` steps before it. Depends on that, the seed and the data
  // alone.
  virtual void fetch(uint64_t step, BatchData& batch) const = 0;
  // All rows, each once, in order.
  virtual uint64_t evaluation_batches() const = 0;
  virtual void fetch_evaluation(uint64_t index, BatchData& batch) const = 0;

  // Rows of features, from `first_row` on, of a data set whose features are a frozen tensor of the run; they
  // are checked as they are read. Several threads at once.
  virtual void read_features(uint64_t first_row, std::span<float> values) const;
  // What it keeps in memory beside batches, if that grows with the data.
  virtual uint64_t memory_bytes() const { return 0; }

  // Throws Error (kUsage) when the data are not those with this fingerprint.
  void expect_fingerprint(const std::string& expected) const;

 protected:
  explicit DataSet(std::string path) : path_(std::move(path)) {}
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace headrace::train

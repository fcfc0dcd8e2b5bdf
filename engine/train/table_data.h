// A data set of samples: rows of features with a class, or with values, each. The files are read in place, a
// batch at a time; memory does not grow with them.
//
// A path names one of
// - a folder of MNIST's idx files (train-images-idx3-ubyte and train-labels-idx1-ubyte, for evaluation those
//   that begin with t10k-; packed by gzip or not): bytes become features from 0 to 1;
// - a folder with features.npy and labels.npy (classes) or targets.npy (values), perhaps with train_mask.npy
//   and test_mask.npy that say which rows are for training and for evaluation;
// - a CSV file whose last column, or last `target_columns`, are the targets.
//
// An epoch takes each row once, in an order that depends on the seed and the epoch alone; epochs follow each
// other without a gap, also inside a batch. Batches come in units of `unit` rows.
//
// Threads: fetching may happen on several at once. Failure: Error; faults of the data are kUsage, when they
// are opened.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/train/data_set.h"
#include "engine/train/number_rows.h"
#include "storage/file.h"

namespace headrace::train {

// What the loss takes as targets.
enum class TargetKind : uint8_t {
  kAny,      // what the data have
  kClasses,  // a class for each row: cross entropy
  kValues,   // mean squared error
  kShares,   // values from 0 to 1; classes 0 and 1 too: binary cross entropy
};

struct TableOptions {
  std::string path, scratch_folder;
  uint64_t batch = 0, unit = 0, seed = 0;  // samples, samples
  bool training = true;
  TargetKind targets = TargetKind::kAny;
  uint64_t target_columns = 1;  // of a CSV
  uint64_t classes = 0;         // that the model knows; 0: as the data have
};

class TableData : public DataSet {
 public:
  explicit TableData(const TableOptions& options);

  DataShape shape() const override { return shape_; }
  std::string description() const override;
  const std::string& fingerprint() const override { return fingerprint_; }
  void fetch(uint64_t step, BatchData& batch) const override;
  uint64_t evaluation_batches() const override;
  void fetch_evaluation(uint64_t index, BatchData& batch) const override;
  // Which row is sample `sample` of the endless sequence of epochs.
  uint64_t row_of(uint64_t sample) const;

 private:
  void open_folder();
  void open_idx();
  void open_npy();
  void open_csv();
  void select(const std::string& mask_path);
  void check_classes();
  void check_values() const;
  std::string compute_fingerprint() const;
  void start(BatchData& batch, uint64_t rows) const;
  void read_row(uint64_t sample, uint64_t place, BatchData& batch) const;  // of those selected
  [[noreturn]] void refuse(const std::string& problem, const std::string& advice) const;

  TableOptions options_;
  std::unique_ptr<NumberRows> features_, targets_;
  bool classes_ = false;    // the targets are classes
  storage::File selected_;  // rows, as 64 bits each; none: all
  DataShape shape_;
  std::string fingerprint_;
};

// Features and classes, or values, that stand for data where there are none; a function of the seed.
BatchData draw_table(uint64_t seed, uint64_t samples, uint64_t unit, const DataShape& shape);

}  // namespace headrace::train

#include "engine/train/table_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <vector>

#include "engine/math/random.h"
#include "engine/train/csv_rows.h"
#include "storage/error.h"
#include "storage/hasher.h"
#include "storage/input_stream.h"

namespace headrace::train {
namespace {

constexpr uint64_t kMostClasses = 1 << 16;
constexpr uint64_t kPieceValues = 16 * 1024;    // that a scan reads at a time
constexpr uint64_t kMostColumns = 1 << 20;      // of a row, which is read as a whole
constexpr uint64_t kFingerprintPart = 1 << 16;  // values at either end

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// The file that stands for one of MNIST's, under the names that it has in the wild; empty: none.
std::string find_idx(const std::string& folder, const std::string& name, int dimensions) {
  for (const char* form : {"{}/{}-idx{}-ubyte", "{}/{}.idx{}-ubyte"})
    for (const char* packed : {".gz", ""}) {
      std::string path = fmt::format(fmt::runtime(form), folder, name, dimensions) + packed;
      if (exists(path)) return path;
    }
  return {};
}

// Calls body(first row, values) for all rows, a piece at a time.
template <class Value, class Read, class Body>
void for_each_piece(const NumberRows& rows, const Read& read, const Body& body) {
  const uint64_t piece_rows = std::max<uint64_t>(1, kPieceValues / rows.columns());
  std::vector<Value> values;
  for (uint64_t row = 0; row < rows.rows(); row += piece_rows) {
    values.resize(std::min(piece_rows, rows.rows() - row) * rows.columns());
    read(row, std::span<Value>(values));
    body(row, std::span<const Value>(values));
  }
}

template <class Body>
void for_each_integer(const NumberRows& rows, const Body& body) {
  for_each_piece<int64_t>(
      rows, [&](uint64_t row, std::span<int64_t> to) { rows.read_integers(row, to); },
      [&](uint64_t row, std::span<const int64_t> values) {
        for (size_t i = 0; i < values.size(); i++) body(row + i / rows.columns(), values[i]);
      });
}

// Whether rows, asked for in ascending order, each once, are among those selected.
class Selection {
 public:
  Selection(const storage::File& list, uint64_t count) : list_(list), count_(count) {}

  bool has(uint64_t row) {
    if (!list_.is_open()) return true;
    if (at_ == piece_.size()) fill();
    if (at_ == piece_.size() || piece_[at_] != row) return false;
    at_++;
    return true;
  }

 private:
  void fill() {
    piece_.resize(std::min(kPieceValues, count_ - read_));
    list_.pread_all(std::as_writable_bytes(std::span(piece_)), read_ * sizeof(uint64_t));
    read_ += piece_.size();
    at_ = 0;
  }

  const storage::File& list_;
  uint64_t count_, read_ = 0;
  std::vector<uint64_t> piece_;
  size_t at_ = 0;
};

}  // namespace

void TableData::refuse(const std::string& problem, const std::string& advice) const {
  throw Error(ErrorKind::kUsage, problem, advice);
}

TableData::TableData(const TableOptions& options) : DataSet(options.path), options_(options) {
  HEADRACE_CHECK(options.batch > 0 && options.unit > 0);
  if (std::filesystem::is_directory(std::filesystem::path(options.path)))
    open_folder();
  else
    open_csv();
  for (const NumberRows* rows : {features_.get(), targets_.get()})
    if (rows->columns() > kMostColumns)
      refuse(fmt::format("{} has {} numbers a row, and at most {} are read", rows->path(), rows->columns(),
                         kMostColumns),
             "give samples of fewer features");
  if (targets_->rows() != features_->rows())
    refuse(fmt::format("{} has {} rows, but {} has {}", features_->path(), features_->rows(),
                       targets_->path(), targets_->rows()),
           "give files of the same samples");
  if (shape_.samples == 0) shape_.samples = features_->rows();
  shape_.feature_columns = features_->columns();
  if (options.targets == TargetKind::kShares && classes_) {
    options_.classes = 2;
    check_classes();
    shape_.classes = 0;
    shape_.value_columns = 1;
    classes_ = false;
  } else if (classes_) {
    check_classes();
  } else {
    shape_.value_columns = targets_->columns();
    check_values();
  }
  fingerprint_ = compute_fingerprint();
}

void TableData::open_folder() {
  if (exists(options_.path + "/features.npy"))
    open_npy();
  else
    open_idx();
  if (options_.targets == TargetKind::kClasses && !classes_)
    refuse(fmt::format("{} has values, and the loss wants classes", targets_->path()),
           "give labels.npy, or --loss mse");
  if (options_.targets == TargetKind::kValues && classes_)
    refuse(fmt::format("{} has classes, and the loss wants values", targets_->path()),
           "give targets.npy, or --loss cross_entropy");
}

void TableData::open_idx() {
  const std::string& folder = options_.path;
  const std::string part = options_.training ? "train" : "t10k";
  const std::string images = find_idx(folder, part + "-images", 3);
  const std::string labels = find_idx(folder, part + "-labels", 1);
  if (images.empty() || labels.empty())
    refuse(fmt::format("the folder {} has neither features.npy nor {}-{}-ubyte", folder, part,
                       images.empty() ? "images-idx3" : "labels-idx1"),
           "give a folder of MNIST's idx files or of .npy files, or a CSV file");
  features_ = open_idx_rows(images, options_.scratch_folder);
  targets_ = open_idx_rows(labels, options_.scratch_folder);
  classes_ = true;
}

void TableData::open_npy() {
  const std::string& folder = options_.path;
  features_ = open_npy_rows(folder + "/features.npy");
  const bool labels = exists(folder + "/labels.npy"), values = exists(folder + "/targets.npy");
  if (!labels && !values)
    refuse(fmt::format("the folder {} has neither labels.npy nor targets.npy", folder),
           "give the classes of the rows as labels.npy, or their values as targets.npy");
  classes_ = labels && !(values && options_.targets == TargetKind::kValues);
  targets_ = open_npy_rows(folder + (classes_ ? "/labels.npy" : "/targets.npy"));
  if (classes_ && !targets_->has_integers())
    refuse(fmt::format("{} holds no integers", targets_->path()), "give classes as integers");
  const std::string mask = folder + (options_.training ? "/train_mask.npy" : "/test_mask.npy");
  if (exists(mask)) select(mask);
}

void TableData::open_csv() {
  storage::open_input_file(options_.path);  // if there is none, that comes first
  if (options_.targets == TargetKind::kAny)
    refuse(fmt::format("nothing says whether the last column of {} is a class or a value", options_.path),
           "give --loss cross_entropy for classes 0, 1, ..., mse for values, or bce for shares from 0 to 1");
  CsvTable table = read_csv(options_.path, options_.target_columns, options_.scratch_folder);
  features_ = std::move(table.features);
  targets_ = std::move(table.targets);
  classes_ = options_.targets == TargetKind::kClasses;
}

// Rows whose truth value is not zero, as a list in a file without a name.
void TableData::select(const std::string& mask_path) {
  const auto mask = open_npy_rows(mask_path);
  if (mask->rows() != features_->rows() || mask->columns() != 1)
    refuse(fmt::format("{} has {} rows of {} values, and {} has {} rows", mask_path, mask->rows(),
                       mask->columns(), features_->path(), features_->rows()),
           "give a mask with one truth value a row");
  if (!mask->has_integers()) refuse(fmt::format("{} holds no truth values", mask_path), "save it as bool");
  selected_ = std::move(storage::open_buffered_temporary_for_blocks(options_.scratch_folder).file);
  std::vector<uint64_t> rows;
  const auto flush = [&] {
    selected_.pwrite_all(std::as_bytes(std::span(rows)), shape_.samples * sizeof(uint64_t));
    shape_.samples += rows.size();
    rows.clear();
  };
  for_each_integer(*mask, [&](uint64_t row, int64_t value) {
    if (value == 0) return;
    rows.push_back(row);
    if (rows.size() == kPieceValues) flush();
  });
  flush();
  if (shape_.samples == 0) refuse(fmt::format("{} selects no row", mask_path), "set some of its values");
}

void TableData::check_classes() {
  if (targets_->columns() != 1)
    refuse(fmt::format("{} has {} columns; a row has one class", targets_->path(), targets_->columns()),
           "give one class for each row");
  std::vector<uint64_t> counts;  // of the rows selected
  Selection selection(selected_, shape_.samples);
  for_each_integer(*targets_, [&](uint64_t row, int64_t label) {
    const uint64_t end = options_.classes > 0 ? options_.classes : kMostClasses;
    if (label < 0 || uint64_t(label) >= end)
      refuse(fmt::format("{}: the label of row {} is {}", targets_->path(), row + 1,
                         label < 0 ? "not a whole number of at least 0"
                                   : fmt::format("{}, and there are {} classes", label, end)),
             fmt::format("labels are whole numbers from 0 to {}", end - 1));
    if (uint64_t(label) >= counts.size()) counts.resize(size_t(label) + 1);
    counts[size_t(label)] += selection.has(row);
  });
  if (options_.training) {
    counts.resize(std::max<size_t>(counts.size(), options_.classes));
    const auto empty = std::find(counts.begin(), counts.end(), 0);
    if (empty != counts.end())
      refuse(fmt::format("{}: class {} of {} has no sample{}", targets_->path(), empty - counts.begin(),
                         counts.size(), selected_.is_open() ? " to train on, as train_mask.npy has it" : ""),
             "give samples of every class, or number the classes without gaps");
  }
  shape_.classes = counts.size();
}

void TableData::check_values() const {
  const bool shares = options_.targets == TargetKind::kShares;
  for_each_piece<float>(
      *targets_, [&](uint64_t row, std::span<float> to) { targets_->read_floats(row, to); },
      [&](uint64_t first, std::span<const float> values) {
        for (size_t i = 0; i < values.size(); i++) {
          const float value = values[i];
          if (std::isfinite(value) && !(shares && (value < 0 || value > 1))) continue;
          refuse(fmt::format("{}: the target of row {}, column {} is {}", targets_->path(),
                             first + i / targets_->columns() + 1, i % targets_->columns() + 1, value),
                 shares ? "binary cross entropy takes targets from 0 to 1" : "targets are finite numbers");
        }
      });
}

// All targets, and features at both ends.
std::string TableData::compute_fingerprint() const {
  storage::Hasher hasher;
  for (const uint64_t number : {features_->rows(), features_->columns(), targets_->columns(), shape_.samples})
    hasher.add_number(number);
  const uint64_t part = std::clamp<uint64_t>(kFingerprintPart / features_->columns(), 1, features_->rows());
  std::vector<float> values(part * features_->columns());
  for (const uint64_t row : {uint64_t{0}, features_->rows() - part}) {
    features_->read_floats(row, values);
    hasher.add(std::as_bytes(std::span(values)));
  }
  for_each_piece<float>(
      *targets_, [&](uint64_t row, std::span<float> to) { targets_->read_floats(row, to); },
      [&](uint64_t, std::span<const float> all) { hasher.add(std::as_bytes(all)); });
  return fmt::format("{}-{}", shape_.samples, hasher.hex());
}

std::string TableData::description() const {
  return fmt::format("{} samples of {} features, {}", shape_.samples, shape_.feature_columns,
                     shape_.classes > 0 ? fmt::format("{} classes", shape_.classes)
                                        : fmt::format("{} values each", shape_.value_columns));
}

uint64_t TableData::row_of(uint64_t sample) const {
  return math::permuted(options_.seed, sample / shape_.samples, shape_.samples, sample % shape_.samples);
}

void TableData::start(BatchData& batch, uint64_t rows) const {
  batch.seq = options_.unit;
  batch.feature_columns = shape_.feature_columns;
  batch.value_columns = shape_.value_columns;
  batch.features.resize(rows * shape_.feature_columns);
  batch.targets.resize(classes_ ? rows : 0);
  batch.values.resize(rows * shape_.value_columns);
}

void TableData::read_row(uint64_t sample, uint64_t place, BatchData& batch) const {
  uint64_t row = sample;
  if (selected_.is_open())
    selected_.pread_all(std::as_writable_bytes(std::span(&row, 1)), sample * sizeof row);
  features_->read_floats(
      row, std::span(batch.features).subspan(place * shape_.feature_columns, shape_.feature_columns));
  if (classes_) {
    int64_t label = 0;
    targets_->read_integers(row, {&label, 1});
    if (label < 0 || uint64_t(label) >= std::max(shape_.classes, options_.classes))
      throw Error(ErrorKind::kFailed,
                  fmt::format("{}: the label of row {} is {} and was another when it was opened",
                              targets_->path(), row + 1, label),
                  "put the file back as it was; the run goes on from its last step");
    batch.targets[place] = int32_t(label);
  } else {
    targets_->read_floats(
        row, std::span(batch.values).subspan(place * shape_.value_columns, shape_.value_columns));
  }
}

void TableData::fetch(uint64_t step, BatchData& batch) const {
  start(batch, options_.batch);
  for (uint64_t j = 0; j < options_.batch; j++) read_row(row_of(step * options_.batch + j), j, batch);
}

uint64_t TableData::evaluation_batches() const {
  return (shape_.samples + options_.batch - 1) / options_.batch;
}

void TableData::fetch_evaluation(uint64_t index, BatchData& batch) const {
  const uint64_t first = index * options_.batch, count = std::min(options_.batch, shape_.samples - first);
  start(batch, count);
  for (uint64_t j = 0; j < count; j++) read_row(first + j, j, batch);
}

BatchData draw_table(uint64_t seed, uint64_t samples, uint64_t unit, const DataShape& shape) {
  BatchData batch;
  batch.seq = unit;
  batch.feature_columns = shape.feature_columns;
  batch.value_columns = shape.value_columns;
  batch.features.resize(samples * shape.feature_columns);
  batch.values.resize(samples * shape.value_columns);
  const auto share = [&](uint64_t stream, uint64_t i) {
    return float(math::random_bits(seed, stream, i) >> 8) / float(1 << 24);
  };
  for (size_t i = 0; i < batch.features.size(); i++) batch.features[i] = share(0, i);
  for (size_t i = 0; i < batch.values.size(); i++) batch.values[i] = share(1, i);
  for (uint64_t i = 0; shape.classes > 0 && i < samples; i++)
    batch.targets.push_back(int32_t(uint64_t{math::random_bits(seed, 1, i)} * shape.classes >> 32));
  return batch;
}

}  // namespace headrace::train

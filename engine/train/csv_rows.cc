#include "engine/train/csv_rows.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "storage/error.h"
#include "storage/file.h"
#include "storage/input_stream.h"
#include "storage/text.h"

namespace headrace::train {
namespace {

constexpr size_t kLongestField = 256;  // bytes
constexpr size_t kMostColumns = uint64_t{1} << 20;
constexpr size_t kPieceValues = 8 * 1024;  // that are written at a time

// Numbers of one type that are appended, and read back at any place.
template <class Element>
class ScratchRows : public NumberRows {
 public:
  ScratchRows(std::string path, uint64_t rows, uint64_t columns, storage::File file)
      : NumberRows(std::move(path), rows, columns), file_(std::move(file)) {}
  void read_floats(uint64_t first, std::span<float> to) const override {
    read(first, to, [](Element value) { return float(value); });
  }
  void read_integers(uint64_t first, std::span<int64_t> to) const override {
    // Beyond 2^53 no double tells integers apart; what is no class is answered as one that cannot be.
    read(first, to, [](Element value) {
      const double number = double(value);
      return number == std::floor(number) && std::abs(number) < 9e15 ? int64_t(number) : int64_t{-1};
    });
  }
  bool has_integers() const override { return true; }  // where they are whole

 private:
  template <class To, class Convert>
  void read(uint64_t first, std::span<To> to, const Convert& convert) const {
    std::array<Element, 4096> piece;
    for (size_t done = 0; done < to.size();) {
      const size_t count = std::min(piece.size(), to.size() - done);
      file_.pread_all(std::as_writable_bytes(std::span(piece).first(count)),
                      (first * columns() + done) * sizeof(Element));
      for (size_t i = 0; i < count; i++) to[done + i] = convert(piece[i]);
      done += count;
    }
  }
  storage::File file_;
};

template <class Element>
class ScratchWriter {
 public:
  explicit ScratchWriter(const std::string& folder)
      : file_(std::move(storage::open_buffered_temporary_for_blocks(folder).file)) {}
  void add(double value) {
    piece_.push_back(Element(value));
    if (piece_.size() == kPieceValues) flush();
  }
  std::unique_ptr<NumberRows> finish(const std::string& path, uint64_t rows, uint64_t columns) {
    flush();
    return std::make_unique<ScratchRows<Element>>(path, rows, columns, std::move(file_));
  }

 private:
  void flush() {
    file_.pwrite_all(std::as_bytes(std::span(piece_)), offset_);
    offset_ += piece_.size() * sizeof(Element);
    piece_.clear();
  }
  storage::File file_;
  std::vector<Element> piece_;
  uint64_t offset_ = 0;
};

std::string_view stripped(std::string_view field) {
  const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!field.empty() && is_space(field.front())) field.remove_prefix(1);
  while (!field.empty() && is_space(field.back())) field.remove_suffix(1);
  if (field.size() >= 2 && field.front() == '"' && field.back() == '"')
    field = field.substr(1, field.size() - 2);
  return field;
}

class Reader {
 public:
  Reader(const std::string& path, uint64_t target_columns, const std::string& scratch_folder)
      : path_(path), target_columns_(target_columns), features_(scratch_folder), targets_(scratch_folder) {}

  CsvTable read() {
    storage::InputStream stream(path_);
    std::array<std::byte, 64 * 1024> piece;
    while (const size_t got = stream.read(piece))
      for (size_t i = 0; i < got; i++) take(char(piece[i]));
    if (!field_.empty() || !fields_.empty()) end_line();
    if (rows_ == 0) throw unusable("has no rows of numbers", "give a file with data");
    return {.features = features_.finish(path_, rows_, columns_ - target_columns_),
            .targets = targets_.finish(path_, rows_, target_columns_)};
  }

 private:
  Error unusable(const std::string& problem, const std::string& advice) const {
    return Error(ErrorKind::kUsage, fmt::format("{}: {}", path_, problem), advice);
  }

  void take(char c) {
    if (c == '\n') return end_line();
    if (c == ',') return end_field();
    if (field_.size() == kLongestField)
      throw unusable(fmt::format("the field in row {}, column {} is longer than {} bytes", line_,
                                 fields_.size() + 1, kLongestField),
                     "give numbers separated by commas");
    field_ += c;
  }

  void end_field() {
    if (fields_.size() == kMostColumns)
      throw unusable(fmt::format("row {} has more than {} columns", line_, kMostColumns),
                     "give numbers separated by commas");
    const std::string_view text = stripped(field_);
    const std::optional<double> number = parse_number(text);
    if (!number && first_bad_ == 0) {
      first_bad_ = fields_.size() + 1;
      bad_text_ = printable(text, 40);
    }
    fields_.push_back(number.value_or(0));
    field_.clear();
  }

  void end_line() {
    const bool blank = fields_.empty() && stripped(field_).empty();
    if (!blank) {
      end_field();
      end_row();
    }
    field_.clear();
    fields_.clear();
    first_bad_ = 0;
    line_++;
  }

  void end_row() {
    if (columns_ == 0) {
      columns_ = fields_.size();
      if (columns_ <= target_columns_)
        throw unusable(fmt::format("row {} has {} columns, and the last {} are the targets", line_, columns_,
                                   target_columns_),
                       "give at least one column of features before them, or another --target-columns");
      if (first_bad_ != 0) return;  // a header
    }
    if (fields_.size() != columns_)
      throw unusable(fmt::format("row {} has {} columns, and the rows before it have {}: column {} is {}",
                                 line_, fields_.size(), columns_, std::min(fields_.size(), columns_) + 1,
                                 fields_.size() < columns_ ? "missing" : "too many"),
                     "give every row the same columns");
    if (first_bad_ != 0)
      throw unusable(fmt::format("'{}' in row {}, column {} is not a number", bad_text_, line_, first_bad_),
                     "correct the field; missing values have to be filled in");
    for (size_t i = 0; i < columns_ - target_columns_; i++) features_.add(fields_[i]);
    for (size_t i = columns_ - target_columns_; i < columns_; i++) targets_.add(fields_[i]);
    rows_++;
  }

  std::string path_;
  uint64_t target_columns_;
  ScratchWriter<float> features_;
  ScratchWriter<double> targets_;
  std::string field_;
  std::vector<double> fields_;  // of the row
  size_t first_bad_ = 0;        // column, from 1, of the row's first field that is no number; 0: none
  std::string bad_text_;
  uint64_t columns_ = 0, rows_ = 0, line_ = 1;
};

}  // namespace

CsvTable read_csv(const std::string& path, uint64_t target_columns, const std::string& scratch_folder) {
  return Reader(path, target_columns, scratch_folder).read();
}

}  // namespace headrace::train

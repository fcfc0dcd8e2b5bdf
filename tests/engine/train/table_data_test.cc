#include "engine/train/table_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include <zlib.h>

#include "storage/error.h"
#include "tests/support/expect_error.h"
#include "tests/support/npy_writer.h"
#include "tests/support/temporary_directory.h"

namespace headrace::train {
namespace {

using ::testing::HasSubstr;
using testing::TemporaryDirectory;
using testing::write_file;

constexpr uint64_t kRows = 70, kColumns = 6, kUnit = 8;

// An idx file whose element i is i mod `modulus`.
std::string idx(const std::vector<uint32_t>& shape, uint32_t modulus) {
  std::string bytes{'\0', '\0', '\x08', char(shape.size())};
  uint64_t elements = 1;
  for (const uint32_t size : shape) {
    for (const int shift : {24, 16, 8, 0}) bytes += char(size >> shift);
    elements *= size;
  }
  for (uint64_t i = 0; i < elements; i++) bytes += char(i % modulus);
  return bytes;
}

void write_gzip(const std::string& path, const std::string& content) {
  gzFile file = gzopen(path.c_str(), "wb");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(gzwrite(file, content.data(), unsigned(content.size())), int(content.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
}

class Tables : public ::testing::Test {
 protected:
  TableOptions options(const std::string& name, TargetKind targets = TargetKind::kAny) const {
    return {.path = directory_ / name,
            .scratch_folder = directory_.path(),
            .batch = 20,
            .unit = kUnit,
            .seed = 3,
            .targets = targets};
  }
  void write_idx() const {
    write_file(directory_ / "train-images-idx3-ubyte", idx({kRows, 2, 3}, 251));
    write_file(directory_ / "train-labels-idx1-ubyte", idx({kRows}, 5));
  }
  void write_csv(const std::string& text) const { write_file(directory_ / "table.csv", text); }
  void expect_refused(const TableOptions& table, const std::string& part) const {
    testing::expect_error(ErrorKind::kUsage, part, [&] { const TableData data(table); });
  }

  TemporaryDirectory directory_;
};

TEST_F(Tables, AnEpochTakesEachRowOnceInAnOrderOfTheSeed) {
  write_idx();
  const TableData data(options("."));
  std::set<uint64_t> rows, next;
  for (uint64_t i = 0; i < kRows; i++) rows.insert(data.row_of(i)), next.insert(data.row_of(kRows + i));
  EXPECT_EQ(rows.size(), kRows);
  EXPECT_EQ(next.size(), kRows);
  TableOptions other = options(".");
  other.seed = 4;
  EXPECT_NE(TableData(other).row_of(0) * 100 + TableData(other).row_of(1),
            data.row_of(0) * 100 + data.row_of(1));
}

TEST_F(Tables, GiveTheRowsOfABatchWithBytesAsShares) {
  write_idx();
  const TableData data(options("."));
  BatchData batch;
  data.fetch(5, batch);  // across the end of an epoch or not, as row_of() says
  ASSERT_EQ(batch.rows(), 20U);
  EXPECT_EQ(batch.seq, kUnit);
  for (uint64_t j = 0; j < 20; j++) {
    const uint64_t row = data.row_of(100 + j);
    EXPECT_EQ(batch.targets[j], int32_t(row % 5));
    for (uint64_t c = 0; c < kColumns; c++)
      EXPECT_EQ(batch.features[j * kColumns + c], float((row * kColumns + c) % 251) / 255);
  }
  EXPECT_EQ(data.shape().classes, 5U);
  EXPECT_EQ(data.evaluation_batches(), 4U);
  data.fetch_evaluation(3, batch);
  EXPECT_EQ(batch.rows(), 10U);
  EXPECT_EQ(batch.targets[0], int32_t(60 % 5));
}

TEST_F(Tables, ReadPackedFilesLikeUnpackedOnes) {
  write_idx();
  const std::string plain = TableData(options(".")).fingerprint();
  for (const char* name : {"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}) {
    const std::string content = testing::read_file(directory_ / name);
    ASSERT_EQ(::unlink((directory_ / name).c_str()), 0);
    write_gzip(directory_ / (std::string(name) + ".gz"), content);
  }
  EXPECT_EQ(TableData(options(".")).fingerprint(), plain);
}

TEST_F(Tables, RefuseFilesThatAreCutShortOrDamaged) {
  write_idx();
  const std::string images = directory_ / "train-images-idx3-ubyte", content = testing::read_file(images);
  for (const size_t length : {size_t{3}, size_t{9}, content.size() - 1}) {
    write_file(images, content.substr(0, length));
    expect_refused(options("."), "train-images-idx3-ubyte: is");
  }
  write_file(images, content + "x");
  expect_refused(options("."), "has bytes after");
  ASSERT_EQ(::unlink(images.c_str()), 0);
  write_gzip(images + ".gz", content);
  const std::string packed = testing::read_file(images + ".gz");
  for (size_t length = 2; length < packed.size(); length += 7) {
    write_file(images + ".gz", packed.substr(0, length));
    expect_refused(options("."), "is cut short");
  }
  std::string damaged = packed;
  damaged[packed.size() - 6] = char(damaged[packed.size() - 6] ^ 1);  // of the checksum
  write_file(images + ".gz", damaged);
  expect_refused(options("."), "is damaged");
  write_file(images + ".gz", packed + "more");
  expect_refused(options("."), "is damaged");
}

TEST_F(Tables, RefuseCountsThatDisagreeLabelsOutOfRangeAndEmptyClasses) {
  write_idx();
  TableOptions four = options(".");
  four.classes = 4;
  expect_refused(four, "the label of row 5 is 4, and there are 4 classes");
  TableOptions six = options(".");
  six.classes = 6;
  expect_refused(six, "class 5 of 6 has no sample");
  write_file(directory_ / "train-labels-idx1-ubyte", idx({kRows - 1}, 5));
  expect_refused(options("."), "has 70 rows");
}

TEST_F(Tables, RefuseAClassThatTheMaskLeavesOut) {
  write_file(directory_ / "features.npy", testing::npy_array<float>({4, 1}, {0, 1, 2, 3}));
  write_file(directory_ / "labels.npy", testing::npy_array<int64_t>({4}, {0, 1, 2, 1}));
  write_file(directory_ / "train_mask.npy", testing::npy_array<uint8_t>({4}, {1, 1, 0, 0}, "|b1"));
  write_file(directory_ / "test_mask.npy", testing::npy_array<uint8_t>({4}, {0, 0, 0, 1}, "|b1"));
  expect_refused(options("."), "class 2 of 3 has no sample to train on");
  TableOptions evaluation = options(".");
  evaluation.training = false;
  EXPECT_EQ(TableData(evaluation).shape().classes, 3U);  // of which it may see any
  write_file(directory_ / "train_mask.npy", testing::npy_array<uint8_t>({4}, {1, 0, 1, 1}, "|b1"));
  EXPECT_EQ(TableData(options(".")).shape().samples, 3U);
}

TEST_F(Tables, RefuseLabelsThatAreNoClasses) {
  write_file(directory_ / "features.npy", testing::npy_array<float>({3, 1}, {0, 1, 2}));
  for (const auto& [label, problem] :
       std::vector<std::pair<int64_t, std::string>>{{-1, "row 2 is not a whole number"},
                                                    {65536, "row 2 is 65536, and there are 65536 classes"},
                                                    {INT64_MAX, "row 2 is 9223372036854775807"},
                                                    {3, "class 1 of 4 has no sample"}}) {
    write_file(directory_ / "labels.npy", testing::npy_array<int64_t>({3}, {0, label, 2}));
    expect_refused(options("."), problem);
  }
  for (const auto& [label, problem] :
       std::vector<std::pair<std::string, std::string>>{{"-1", "row 2 is not a whole number"},
                                                        {"0.5", "row 2 is not a whole number"},
                                                        {"1e300", "row 2 is not a whole number"},
                                                        {"nan", "'nan' in row 2"},
                                                        {"2", "class 1 of 3 has no sample"}}) {
    write_csv("2,0\n1," + label + "\n");
    expect_refused(options("table.csv", TargetKind::kClasses), problem);
  }
}

TEST_F(Tables, RefuseRowsThatAreTooWide) {
  write_idx();
  write_file(directory_ / "train-images-idx3-ubyte", idx({2, 1024, 1025}, 7));
  write_file(directory_ / "train-labels-idx1-ubyte", idx({2}, 2));
  expect_refused(options("."), "has 1049600 numbers a row");
}

TEST_F(Tables, ReadCsvWithAndWithoutAHeader) {
  for (const char* header : {"", "a,\"b\",y\r\n"}) {
    write_csv(std::string(header) + "1,2,0\r\n\n 3 ,-4e1,1\n\"5\",6.5,0");
    TableOptions table = options("table.csv", TargetKind::kClasses);
    const TableData data(table);
    EXPECT_EQ(data.shape().samples, 3U);
    EXPECT_EQ(data.shape().feature_columns, 2U);
    BatchData batch;
    data.fetch_evaluation(0, batch);
    EXPECT_EQ(batch.features, (std::vector<float>{1, 2, 3, -40, 5, 6.5}));
    EXPECT_EQ(batch.targets, (std::vector<int32_t>{0, 1, 0}));
    table.targets = TargetKind::kValues;
    table.target_columns = 2;
    const TableData values(table);
    values.fetch_evaluation(0, batch);
    EXPECT_EQ(batch.values, (std::vector<float>{2, 0, -40, 1, 6.5, 0}));
  }
}

TEST_F(Tables, NameRowAndColumnOfWhatACsvHasWrong) {
  const TableOptions table = options("table.csv", TargetKind::kValues);
  write_csv("1,2,3\n4,5\n");
  expect_refused(table, "row 2 has 2 columns, and the rows before it have 3: column 3 is missing");
  write_csv("1,2\n4,5,6\n");
  expect_refused(table, "column 3 is too many");
  write_csv("1,2\n3,x\n");
  expect_refused(table, "'x' in row 2, column 2 is not a number");
  write_csv("1,2\n,4\n");
  expect_refused(table, "'' in row 2, column 1 is not a number");
  write_csv("a,b\n");
  expect_refused(table, "has no rows");
  write_csv("1\n2\n");
  expect_refused(table, "the last 1 are the targets");
  write_csv("1,0.5\n");
  expect_refused(options("table.csv", TargetKind::kClasses), "the label of row 1");
  write_csv("1,1.5\n");
  expect_refused(options("table.csv", TargetKind::kShares), "the target of row 1, column 1 is 1.5");
  expect_refused(options("table.csv"), "nothing says");
  expect_refused(options("missing.csv"), "cannot open");
}

}  // namespace
}  // namespace headrace::train

#include "engine/inspect/dequantized.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "storage/safetensors.h"
#include "storage/safetensors_writer.h"
#include "tests/support/expect_error.h"
#include "tests/support/process.h"
#include "tests/support/temporary_directory.h"

namespace headrace::inspect {
namespace {

using storage::ElementType;
using storage::NewTensor;

class DequantizedTest : public ::testing::Test {
 protected:
  template <class Element>
  void write(storage::SafetensorsWriter& writer, size_t tensor, const std::vector<Element>& values) {
    writer.write(tensor, 0, std::as_bytes(std::span(values)));
  }
  std::string path() const { return directory_ / "file.safetensors"; }
  std::unique_ptr<storage::TensorSource> open() const {
    return dequantized(storage::open_safetensors(path()));
  }
  // A matrix of 3 rows and 2 columns, a vector, and scales of that type and shape.
  void make(ElementType type, const std::vector<uint64_t>& shape, const std::vector<float>& scales,
            const std::vector<uint64_t>& matrix_shape = {3, 2}) {
    std::filesystem::remove(path());
    storage::SafetensorsWriter writer(
        path(),
        {{"w", ElementType::kI8, matrix_shape}, {"w.scale", type, shape}, {"b", ElementType::kF32, {2}}},
        {{"key", "value"}});
    if (matrix_shape == std::vector<uint64_t>{3, 2}) write<int8_t>(writer, 0, {1, -2, 127, 0, -127, 5});
    write(writer, 1, scales);
    write<float>(writer, 2, {7, 8});
    writer.finish();
  }

  testing::TemporaryDirectory directory_;
};

TEST_F(DequantizedTest, ShowsTheNumbersThatTheIntegersStandFor) {
  make(ElementType::kF32, {3}, {0.5F, 2, 0});
  const auto source = open();
  ASSERT_EQ(source->tensors().size(), 2u);
  EXPECT_EQ(source->tensors()[0].name, "b");  // of larger elements: lies first
  const storage::SourceTensor& w = source->tensors()[1];
  EXPECT_EQ(w.name, "w");
  EXPECT_EQ(w.planes[0].type, ElementType::kF32);
  EXPECT_EQ(w.bytes, 6 + 3 * sizeof(float));
  std::vector<float> values(6), middle(3), vector(2);
  source->read(1, 0, 0, std::as_writable_bytes(std::span(values)));
  EXPECT_EQ(values, (std::vector<float>{0.5F, -1, 254, 0, 0, 0}));
  source->read(1, 0, 1, std::as_writable_bytes(std::span(middle)));
  EXPECT_EQ(middle, (std::vector<float>{-1, 254, 0}));
  source->read(0, 0, 0, std::as_writable_bytes(std::span(vector)));
  EXPECT_EQ(vector, (std::vector<float>{7, 8}));
}

TEST_F(DequantizedTest, RefusesScalesThatDoNotFit) {
  make(ElementType::kF32, {2}, {1, 1});
  testing::expect_error(ErrorKind::kCorrupt, "'w.scale' is F32 [2]", [&] { open(); });
  make(ElementType::kF32, {3, 1}, {1, 1, 1});
  testing::expect_error(ErrorKind::kCorrupt, "'w' need F32 [3]", [&] { open(); });
  make(ElementType::kF64, {3}, {1, 1, 1, 1, 1, 1});
  testing::expect_error(ErrorKind::kCorrupt, "'w.scale' is F64 [3]", [&] { open(); });
  make(ElementType::kF32, {0}, {}, {0, 2});
  testing::expect_error(ErrorKind::kCorrupt, "'w' has scales and the shape [0, 2]", [&] { open(); });
  make(ElementType::kF32, {3}, {1, 1, 1}, {3, 0});
  testing::expect_error(ErrorKind::kCorrupt, "'w' has scales and the shape [3, 0]", [&] { open(); });
}

TEST_F(DequantizedTest, RefusesScalesThatAreNoSuchNumbers) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -1.0F, INFINITY}) {
    make(ElementType::kF32, {3}, {1, 1, bad});
    const auto source = open();
    std::vector<float> values(6);
    source->read(1, 0, 0, std::as_writable_bytes(std::span(values).first(4)));  // of the rows before
    testing::expect_error(ErrorKind::kCorrupt, fmt::format("has the scale {} in row 2", bad),
                          [&] { source->read(1, 0, 0, std::as_writable_bytes(std::span(values))); });
  }
}

}  // namespace
}  // namespace headrace::inspect

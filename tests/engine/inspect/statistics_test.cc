#include "engine/inspect/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "build_paths.h"
#include "engine/inspect/difference.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace inspect;
using storage::TensorSource;

constexpr double kInfinity = std::numeric_limits<double>::infinity(),
                 kNan = std::numeric_limits<double>::quiet_NaN();

nlohmann::json golden() {
  return nlohmann::json::parse(testing::read_file(HEADRACE_GOLDEN_DIR "/inspect_statistics.json"));
}

void expect_close(double value, const nlohmann::json& expected, const std::string& what) {
  EXPECT_NEAR(value, expected.get<double>(), 1e-13 * (1 + std::abs(expected.get<double>()))) << what;
}

std::unique_ptr<TensorSource> open(const std::string& path) {
  return storage::open_source(path, {.use = storage::SourceUse::kRead});
}

Statistics of(const std::vector<double>& values, size_t piece) {
  StatisticsBuilder builder;
  for (size_t at = 0; at < values.size(); at += piece)
    builder.add(std::span(values).subspan(at, std::min(piece, values.size() - at)));
  return builder.finish();
}

TEST(Statistics, AreNumpysForEveryGoldenTensor) {
  const auto source = open(HEADRACE_GOLDEN_DIR "/gpt2_tiny.safetensors");
  const nlohmann::json expected = golden()["statistics"];
  ASSERT_EQ(source->tensors().size(), expected.size());
  for (size_t i = 0; i < source->tensors().size(); i++) {
    const storage::SourceTensor& tensor = source->tensors()[i];
    const auto& numpy = expected.at(tensor.name);
    const Statistics s = statistics_of(*source, i, storage::value_fields(tensor)[0]);
    EXPECT_EQ(s.elements, numpy["elements"]);
    EXPECT_EQ(s.zeros, numpy["zeros"]);
    EXPECT_EQ(s.min, numpy["min"]);
    EXPECT_EQ(s.max, numpy["max"]);
    expect_close(s.mean, numpy["mean"], tensor.name);
    expect_close(s.standard_deviation, numpy["standard_deviation"], tensor.name);
  }
}

TEST(Statistics, CountWhatIsNotFiniteApart) {
  const Statistics s = of({1, kNan, -kInfinity, 3, 0, kInfinity, -0.0, kNan}, 3);
  EXPECT_EQ(s.elements, 8u);
  EXPECT_EQ(s.zeros, 2u);
  EXPECT_EQ(s.nans, 2u);
  EXPECT_EQ(s.infinities, 2u);
  EXPECT_EQ(s.min, 0);
  EXPECT_EQ(s.max, 3);
  EXPECT_EQ(s.mean, 1);
  EXPECT_DOUBLE_EQ(s.standard_deviation, std::sqrt(1.5));
  const Statistics none = of({kNan, kNan}, 1);
  EXPECT_TRUE(std::isnan(none.mean));
  EXPECT_TRUE(none.histogram.counts.empty());
}

TEST(Statistics, KeepTheirDigitsFarFromZero) {
  std::vector<double> values;
  for (int i = 0; i < 100000; i++) values.push_back(1e9 + i % 3);
  const Statistics s = of(values, 777);
  EXPECT_NEAR(s.mean, 1e9 + 0.99999, 1e-4);
  EXPECT_NEAR(s.standard_deviation, std::sqrt(2.0 / 3), 1e-4);
}

TEST(Statistics, CountEveryValueInItsBin) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 200; round++) {
    std::vector<double> values(1 + random() % 3000);
    const int reach = round % 4 == 0 ? 1000 : round % 4;
    for (double& value : values) {
      value = std::ldexp(static_cast<double>(static_cast<int64_t>(random())) / 9e18,
                         static_cast<int>(random() % static_cast<uint64_t>(2 * reach + 1)) - reach);
    }
    if (round % 5 == 0) values.assign(values.size(), values[0]);
    if (round % 7 == 0) values.push_back(8e307);
    if (round % 7 == 0) values.push_back(-8e307);
    if (round % 11 == 0) values.push_back(5e-324);
    if (round % 3 == 0) values.insert(values.begin(), 1000, 0.0);  // before it is known how wide bins must be
    const Histogram h = of(values, 1 + random() % 500).histogram;
    ASSERT_FALSE(h.counts.empty());
    ASSERT_LE(h.counts.size(), kMostBins);
    EXPECT_GT(h.counts.front() * h.counts.back(), 0u);
    const auto [least, most] = std::minmax_element(values.begin(), values.end());
    if (*least < *most) {
      EXPECT_GE(h.counts.size(), kMostBins / 2 - 1);  // as fine as may be
    }
    int exponent = 0;
    EXPECT_EQ(std::frexp(h.width, &exponent), 0.5);  // a power of two
    for (size_t i = 0; i < h.counts.size(); i++) {
      const double low = h.first + static_cast<double>(i) * h.width, high = low + h.width;
      const auto count =
          std::count_if(values.begin(), values.end(), [&](double v) { return v >= low && v < high; });
      ASSERT_EQ(h.counts[i], static_cast<uint64_t>(count)) << "round " << round << " bin " << i;
    }
    EXPECT_EQ(std::accumulate(h.counts.begin(), h.counts.end(), uint64_t{0}), values.size());
  }
}

TEST(Difference, IsNumpysForEveryGoldenTensor) {
  // The tensors before and after ten steps, under equal names.
  const auto all = open(HEADRACE_GOLDEN_DIR "/gpt2_tiny.safetensors");
  const testing::TemporaryDirectory directory;
  testing::SafetensorsWriter before, after;
  for (size_t i = 0; i < all->tensors().size(); i++) {
    const storage::SourceTensor& tensor = all->tensors()[i];
    std::vector<float> values(tensor.elements);
    if (tensor.name.starts_with("initial.") || tensor.name.starts_with("final."))
      all->read(i, 0, 0, std::as_writable_bytes(std::span(values)));
    if (tensor.name.starts_with("initial.")) before.add(tensor.name.substr(8), "F32", values);
    if (tensor.name.starts_with("final.")) after.add(tensor.name.substr(6), "F32", values);
  }
  testing::write_file(directory / "a.safetensors", before.file());
  testing::write_file(directory / "b.safetensors", after.file());
  const auto a = open(directory / "a.safetensors"), b = open(directory / "b.safetensors");
  const Comparison comparison = compare(
      *a, *b, [](const auto&) { return true; }, [](double) {});
  const nlohmann::json expected = golden()["differences"];
  ASSERT_EQ(comparison.fields.size(), expected.size());
  for (const Difference& d : comparison.fields) {
    const auto& numpy = expected.at(d.tensor);
    EXPECT_EQ(d.differing, numpy["differing"]) << d.tensor;
    EXPECT_EQ(d.max_absolute, numpy["max_absolute"]) << d.tensor;
    expect_close(d.mean_absolute, numpy["mean_absolute"], d.tensor);
    expect_close(d.relative_norm, numpy["relative_norm"], d.tensor);
  }
  EXPECT_FALSE(comparison.equal());
  EXPECT_TRUE(compare(
                  *a, *a, [](const auto&) { return true; }, [](double) {})
                  .equal());
}

TEST(Difference, SaysWhatOnlyOneHoldsAndWhatCannotBeCompared) {
  const testing::TemporaryDirectory directory;
  testing::SafetensorsWriter a, b;
  a.add<float>("same", "F32", {1, 2});
  b.add<uint16_t>("same", "BF16", {0x3f80, 0x4000});
  a.add<float>("shape", "F32", {1, 2});
  b.add<float>("shape", "F32", {1, 2, 3});
  a.add<float>("left", "F32", {1});
  b.add<float>("right", "F32", {1});
  a.add<float>("nan", "F32", {std::nanf(""), 1, INFINITY, 0});
  b.add<float>("nan", "F32", {std::nanf(""), std::nanf(""), INFINITY, -0.0F});
  a.add<int64_t>("large", "I64", {(int64_t{1} << 60) + 1, 7});
  b.add<int64_t>("large", "I64", {int64_t{1} << 60, 7});
  testing::write_file(directory / "a.safetensors", a.file());
  testing::write_file(directory / "b.safetensors", b.file());
  const auto first = open(directory / "a.safetensors"), second = open(directory / "b.safetensors");
  const Comparison c = compare(
      *first, *second, [](const auto&) { return true; }, [](double) {});
  EXPECT_EQ(c.only_in_a, std::vector<std::string>{"left"});
  EXPECT_EQ(c.only_in_b, std::vector<std::string>{"right"});
  ASSERT_EQ(c.shapes.size(), 1u);
  ASSERT_EQ(c.fields.size(), 3u);
  EXPECT_EQ(c.fields[0].differing, 0u);
  EXPECT_EQ(c.fields[0].b_type, "BF16");
  EXPECT_EQ(c.fields[1].differing, 2u);  // 1 and NaN, 0 and -0
  EXPECT_EQ(c.fields[1].incomparable, 1u);
  EXPECT_EQ(c.fields[1].max_absolute, 0);
  EXPECT_EQ(c.fields[2].differing, 1u);  // though equal as doubles
}

}  // namespace
}  // namespace headrace

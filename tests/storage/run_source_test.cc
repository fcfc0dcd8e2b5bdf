#include "storage/run_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "storage/tensor_values.h"
#include "tests/support/expect_error.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;

class RunSourceTest : public ::testing::Test {
 protected:
  RunSourceTest() : io_(make_block_io({IoBackend::kThreads})), run_(directory_ / "run") {
    create_small(small_config(run_), *io_);
    const auto store = Store::open(run_, {}, *io_);
    for (uint64_t step = 1; step <= 3; step++) write_and_commit(*store, *io_, step);
  }
  // What a plane of a part holds, by the rule that filled it.
  std::string expected(const Layout& layout, TensorId id, const TensorPart& part, uint32_t plane) const {
    const TensorSpec& spec = layout.tensor(id);
    std::string whole;
    for (uint32_t b = 0; b < layout.block_count(id); b++) {
      const BlockLayout& block = layout.block(layout.first_block(id) + b);
      std::vector<std::byte> payload(block.payload_bytes);
      fill_payload(layout, block, 3, payload);
      whole.append(reinterpret_cast<const char*>(payload.data()) + block.planes[plane].offset,
                   block.planes[plane].bytes);
    }
    uint64_t elements = 1;
    for (const uint64_t length : part.shape) elements *= length;
    const uint64_t unit = spec.planes[plane].element_bytes, group = spec.planes[plane].group;
    const uint64_t first = part.first_element / group, last = (part.first_element + elements - 1) / group;
    return whole.substr(first * unit, (last + 1 - first) * unit);
  }

  TemporaryDirectory directory_;
  std::unique_ptr<BlockIo> io_;
  std::string run_;
};

TEST_F(RunSourceTest, GivesAnyElementsOfAnyPlane) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto source = open_run(run_, {.use = SourceUse::kRead});
  const Layout layout = small_layout();
  size_t tensor = 0;
  for (TensorId id = 0; id < layout.tensors().size(); id++) {
    for (const TensorPart& part : layout.tensor(id).parts) {
      for (uint32_t plane = 0; plane < layout.tensor(id).planes.size(); plane++) {
        const std::string all = expected(layout, id, part, plane);
        const uint64_t unit = layout.tensor(id).planes[plane].element_bytes, values = all.size() / unit;
        ASSERT_EQ(value_count(source->tensors()[tensor], source->tensors()[tensor].planes[plane]), values);
        for (int round = 0; round < 20; round++) {
          const uint64_t first = round == 0 ? 0 : random() % values;
          const uint64_t count = round == 0 ? values : random() % (values - first) + 1;
          std::string got(count * unit, '\0');
          source->read(tensor, plane, first, std::as_writable_bytes(std::span(got)));
          ASSERT_EQ(got, all.substr(first * unit, count * unit)) << part.name << " plane " << plane;
        }
      }
      tensor++;
    }
  }
  EXPECT_EQ(tensor, source->tensors().size());
}

TEST_F(RunSourceTest, ReadsOnBehindAFlippedBit) {
  uint64_t offset = 0;
  const Layout layout = small_layout();
  const TensorId damaged = layout.block(0).tensor;
  {
    const auto store = Store::open(run_, {}, *io_);
    std::byte unused{};
    offset = store->read_request(0, {0, 1}, &unused).offset;
  }
  const std::string path = run_ + "/shards/000/data.mdb";
  std::string bytes = read_file(path);
  bytes[offset + 1] = char(bytes[offset + 1] ^ 1);
  write_file(path, bytes);
  const auto source = open_run(run_, {.use = SourceUse::kVerify});
  size_t tensor = 0;
  for (TensorId id = 0; id < layout.tensors().size(); id++) {
    for (const TensorPart& part : layout.tensor(id).parts) {
      for (uint32_t plane = 0; plane < layout.tensor(id).planes.size(); plane++) {
        const std::string all = expected(layout, id, part, plane);
        const uint64_t unit = layout.tensor(id).planes[plane].element_bytes, values = all.size() / unit;
        size_t faults = 0;
        for (uint64_t at = 0; at < values;) {
          const uint64_t end = std::min(values, source->checked_with(tensor, plane, at));
          ASSERT_GT(end, at);
          std::string got((end - at) * unit, '\0');
          try {
            source->read(tensor, plane, at, std::as_writable_bytes(std::span(got)));
            ASSERT_EQ(got, all.substr(at * unit, got.size())) << part.name << " plane " << plane;
          } catch (const Error& error) {
            EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
            faults++;
          }
          at = end;
        }
        EXPECT_EQ(faults, id == damaged && plane == 0 && part.first_element == 0 ? 1 : 0) << part.name;
      }
      tensor++;
    }
  }
}

TEST_F(RunSourceTest, JoinsTheHalvesOfAWeight) {
  const auto source = open_run(run_, {.use = SourceUse::kRead});
  const auto fields = value_fields(source->tensors()[1]);
  ASSERT_EQ(fields.size(), 3u);
  EXPECT_EQ(fields[0].name, "");
  EXPECT_EQ(fields[0].type, ElementType::kF32);
  EXPECT_EQ(fields[1].name, "moment1");
  std::vector<uint16_t> high(100);
  std::vector<int16_t> low(100);
  std::vector<uint32_t> joined(100);
  std::vector<std::byte> scratch;
  source->read(1, 0, 50, std::as_writable_bytes(std::span(high)));
  source->read(1, 1, 50, std::as_writable_bytes(std::span(low)));
  read_values(*source, 1, fields[0], 50, std::as_writable_bytes(std::span(joined)), scratch);
  for (size_t i = 0; i < joined.size(); i++)
    ASSERT_EQ(joined[i], (uint32_t{high[i]} << 16) + static_cast<uint32_t>(int32_t{low[i]}));
}

// Of "q.bias", which begins in the middle of a group, and of a matrix.
TEST_F(RunSourceTest, MakesMomentsOfCodesAndScales) {
  const auto source = open_run(run_, {.use = SourceUse::kRead});
  for (const size_t tensor : {6u, 8u}) {
    const auto fields = value_fields(source->tensors()[tensor]);
    ASSERT_EQ(fields.size(), 3u);
    EXPECT_EQ(fields[1].name, "moment1");
    EXPECT_EQ(fields[2].name, "moment2");
    const uint64_t before = tensor == 8 ? 50 % 32 : 0, elements = source->tensors()[tensor].elements;
    std::vector<int8_t> code1(elements);
    std::vector<uint8_t> code2(elements);
    std::vector<float> scale1((before + elements + 31) / 32), scale2(scale1.size());
    source->read(tensor, 2, 0, std::as_writable_bytes(std::span(code1)));
    source->read(tensor, 3, 0, std::as_writable_bytes(std::span(code2)));
    source->read(tensor, 4, 0, std::as_writable_bytes(std::span(scale1)));
    source->read(tensor, 5, 0, std::as_writable_bytes(std::span(scale2)));
    for (const uint64_t first : {uint64_t{0}, uint64_t{13}, uint64_t{14}, elements - 1}) {
      std::vector<float> moment1(elements - first), moment2(elements - first);
      std::vector<std::byte> scratch;
      read_values(*source, tensor, fields[1], first, std::as_writable_bytes(std::span(moment1)), scratch);
      read_values(*source, tensor, fields[2], first, std::as_writable_bytes(std::span(moment2)), scratch);
      for (uint64_t i = first; i < elements; i++) {
        const double root1 = code1[i] / 127.0, root2 = code2[i] / 255.0;
        const double s1 = double(scale1[(before + i) / 32]), s2 = double(scale2[(before + i) / 32]);
        const double m = root1 * std::abs(root1) * s1, v = std::pow(root2, 4) * s2;
        if (std::isnan(s1) || std::isnan(s2)) continue;
        ASSERT_NEAR(double(moment1[i - first]), m, 1e-6 * std::abs(m) + 1e-44) << tensor << " " << i;
        ASSERT_NEAR(double(moment2[i - first]), v, 1e-6 * std::abs(v) + 1e-44) << tensor << " " << i;
      }
    }
  }
}

TEST_F(RunSourceTest, ListsARunThatIsInUseAndLeavesItsContentAlone) {
  const auto store = Store::open(run_, {}, *io_);
  const auto source = open_run(run_, {.use = SourceUse::kList});
  EXPECT_EQ(source->info().step, 3u);
  EXPECT_EQ(source->tensors().size(), 9u);
  EXPECT_EQ(source->tensors()[3].name, "b.bias");
  expect_error(ErrorKind::kRefused, "run", [&] { open_run(run_, {.use = SourceUse::kRead}); });
}

}  // namespace
}  // namespace headrace

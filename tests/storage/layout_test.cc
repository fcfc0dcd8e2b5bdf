#include "storage/layout.h"

#include <gtest/gtest.h>

#include "storage/checksum.h"
#include "tests/support/expect_error.h"
#include "tests/support/store_content.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;

TensorSpec matrix() { return {"m", 10, 3000, 4, 2, {{"a", 2}, {"b", 4}}, {{"m", {10, 3000}, 0}}}; }

TEST(Layout, CutsRowsIntoBlocksWithPaddedPlanes) {
  const Layout layout({matrix()});
  ASSERT_EQ(layout.blocks().size(), 3u);
  const BlockLayout& last = layout.block(2);
  EXPECT_EQ(last.first_row, 8u);
  EXPECT_EQ(last.rows, 2u);
  EXPECT_EQ(last.planes[0].bytes, 12000u);
  EXPECT_EQ(last.planes[0].padded_bytes, 12288u);
  EXPECT_EQ(last.planes[1].offset, 12288u);
  EXPECT_EQ(last.payload_bytes, 12288u + 24576u);
  EXPECT_EQ(layout.element_count(), 30000u);
}

TEST(Layout, GroupsOfElementsShareAValue) {
  TensorSpec tensor = matrix();
  tensor.planes.push_back({"c", 4, 500});
  const Layout layout({tensor});
  EXPECT_EQ(layout.block(0).planes[2].bytes, 4u * 3000 / 500 * 4);
  EXPECT_EQ(layout.block(2).planes[2].bytes, 2u * 3000 / 500 * 4);
  // At the end there may be fewer.
  tensor = {"v", 1001, 1, 1001, 2, {{"a", 2}, {"c", 4, 256}}, {{"v", {1001}, 0}}};
  EXPECT_EQ(Layout({tensor}).block(0).planes[1].bytes, 4u * 4);
}

TEST(Layout, ChunksCoverARangeWithoutGaps) {
  const Layout layout = small_layout(256);
  for (const BlockLayout& block : layout.blocks()) {
    for (uint32_t first = 0; first < block.planes.size(); first++) {
      const PlaneRange range{first, static_cast<uint32_t>(block.planes.size())};
      uint64_t next = 0;
      for (uint32_t i = 0; i < chunks_in_range(block, range); i++) {
        const ChunkSpan chunk = chunk_in_range(block, range, i);
        EXPECT_EQ(chunk.offset, next);
        EXPECT_EQ(chunk.index, block.planes[first].first_chunk + i);
        next += chunk.bytes;
      }
      EXPECT_EQ(next, Layout::range_bytes(block, range));
    }
  }
}

TEST(Layout, RefusesTablesThatMakeNoSense) {
  const auto refused = [](const std::string& text, auto change) {
    TensorSpec tensor = matrix();
    change(tensor);
    expect_error(ErrorKind::kUsage, text, [&] { Layout layout({tensor}); });
  };
  refused("no elements", [](TensorSpec& t) { t.rows = 0; });
  refused("no rows", [](TensorSpec& t) { t.block_rows = 0; });
  refused("3 slots", [](TensorSpec& t) { t.slots = 3; });
  refused("0 planes", [](TensorSpec& t) { t.planes.clear(); });
  refused("values of 0 bytes", [](TensorSpec& t) { t.planes[0].element_bytes = 0; });
  refused("values of 17 bytes", [](TensorSpec& t) { t.planes[0].element_bytes = kMostElementBytes + 1; });
  refused("groups of 0 elements", [](TensorSpec& t) { t.planes[0].group = 0; });
  refused("groups of 65537 elements", [](TensorSpec& t) { t.planes[0].group = 65537; });
  refused("would lie in two blocks", [](TensorSpec& t) { t.planes[0].group = 512; });
  refused("64 bits", [](TensorSpec& t) { t.rows = t.columns = uint64_t{1} << 40; });
  refused("take fewer rows", [](TensorSpec& t) {
    t.rows = t.block_rows = 1 << 20;
    t.parts[0].shape = {1 << 20, 3000};
  });
  refused("its parts have", [](TensorSpec& t) { t.parts[0].shape = {10, 2999}; });
  refused("begins at element", [](TensorSpec& t) { t.parts[0].first_element = 1; });
  expect_error(ErrorKind::kUsage, "repeats", [] { Layout layout({matrix(), matrix()}); });
  expect_error(ErrorKind::kUsage, "without tensors", [] { Layout layout(std::vector<TensorSpec>{}); });
}

}  // namespace
}  // namespace headrace

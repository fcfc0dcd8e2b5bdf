#include "storage/aligned_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "storage/error.h"

namespace headrace::storage {
namespace {

// The pages of a mapping that take memory.
size_t resident_pages(const AlignedMemory& memory) {
  const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<unsigned char> pages(memory.size() / page_bytes);
  EXPECT_EQ(::mincore(memory.data(), memory.size(), pages.data()), 0);
  return static_cast<size_t>(
      std::count_if(pages.begin(), pages.end(), [](unsigned char page) { return page & 1; }));
}

TEST(AlignedMemory, IsAlignedZeroedAndRoundedUp) {
  const AlignedMemory memory(AlignedMemory::kAlignment + 1);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(memory.data()) % AlignedMemory::kAlignment, 0u);
  EXPECT_EQ(memory.size(), 2 * AlignedMemory::kAlignment);
  EXPECT_TRUE(std::all_of(memory.data(), memory.data() + memory.size(),
                          [](std::byte b) { return b == std::byte{0}; }));
  memory.span().back() = std::byte{1};  // the last byte is ours
}

TEST(AlignedMemory, TakesNoMemoryUntilTouched) {
  const AlignedMemory memory(64 << 20);
  EXPECT_EQ(resident_pages(memory), 0u);
  memory.data()[0] = std::byte{1};
  EXPECT_GT(resident_pages(memory), 0u);
  EXPECT_LE(resident_pages(memory), 512u);
}

TEST(AlignedMemory, OfNothingIsEmpty) {
  EXPECT_EQ(AlignedMemory(0).size(), 0u);
  EXPECT_EQ(AlignedMemory().data(), nullptr);
}

TEST(AlignedMemory, KeepsItsPlaceWhenMoved) {
  AlignedMemory first(1);
  std::byte* const data = first.data();
  data[0] = std::byte{7};
  AlignedMemory second = std::move(first);
  EXPECT_EQ(second.data(), data);
  first = AlignedMemory(1);
  EXPECT_NE(first.data(), data);
  second = std::move(first);
  EXPECT_EQ(second.data()[0], std::byte{0});
}

TEST(AlignedMemory, RefusesMoreThanTheAddressSpaceHolds) {
  for (const uint64_t bytes : {std::numeric_limits<uint64_t>::max(), uint64_t{1} << 60})
    EXPECT_THROW(AlignedMemory{bytes}, Error) << bytes;
}

}  // namespace
}  // namespace headrace::storage

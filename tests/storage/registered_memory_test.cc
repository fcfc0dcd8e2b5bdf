#include "storage/registered_memory.h"

#include <gtest/gtest.h>

namespace headrace::storage {
namespace {

class RegisteredMemoryTest : public ::testing::Test {
 protected:
  std::vector<std::byte> bytes_ = std::vector<std::byte>(300);
  std::byte* const start_ = bytes_.data() + 20;
  const RegisteredMemory memory_{std::span(start_, 250), 100};
};

TEST_F(RegisteredMemoryTest, IsCutIntoPiecesWithoutGaps) {
  const std::vector<std::span<std::byte>> pieces = memory_.pieces();
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[1].data(), start_ + 100);
  EXPECT_EQ(pieces[1].size(), 100u);
  EXPECT_EQ(pieces[2].data(), start_ + 200);
  EXPECT_EQ(pieces[2].size(), 50u);
}

TEST_F(RegisteredMemoryTest, FindsThePieceOfARangeInsideOne) {
  EXPECT_EQ(memory_.piece_of(start_, 100), 0u);
  EXPECT_EQ(memory_.piece_of(start_ + 100, 1), 1u);
  EXPECT_EQ(memory_.piece_of(start_ + 249, 1), 2u);
}

TEST_F(RegisteredMemoryTest, FindsNoneForARangeOutsideOrAcrossTwo) {
  EXPECT_FALSE(memory_.piece_of(start_ + 99, 2));
  EXPECT_FALSE(memory_.piece_of(start_ - 1, 2));
  EXPECT_FALSE(memory_.piece_of(start_ + 249, 2));
  EXPECT_FALSE(memory_.piece_of(start_ + 250, 1));
  EXPECT_FALSE(memory_.piece_of(start_ + 10, ~uint64_t{0}));
  EXPECT_FALSE(memory_.piece_of(start_, 0));
  EXPECT_FALSE(RegisteredMemory().piece_of(start_, 1));
}

}  // namespace
}  // namespace headrace::storage

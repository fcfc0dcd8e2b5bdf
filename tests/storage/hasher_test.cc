#include "storage/hasher.h"

#include <gtest/gtest.h>

namespace headrace::storage {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

TEST(Hasher, DoesNotSeeHowTheBytesWereCut) {
  Hasher whole;
  whole.add(bytes("in the beginning"));
  Hasher pieces;
  pieces.add(bytes("in the "));
  pieces.add({});
  pieces.add(bytes("beginning"));
  EXPECT_EQ(whole.hex(), pieces.hex());
  EXPECT_EQ(whole.hex().size(), 32u);
}

TEST(Hasher, IsXxh3With128Bits) { EXPECT_EQ(Hasher().hex(), "99aa06d3014798d86001c324468d497f"); }

TEST(Hasher, TellsSequencesOfTextsApart) {
  Hasher a;
  a.add_text("ab");
  a.add_text("c");
  Hasher b;
  b.add_text("a");
  b.add_text("bc");
  EXPECT_NE(a.hex(), b.hex());
}

}  // namespace
}  // namespace headrace::storage

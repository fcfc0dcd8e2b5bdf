#include "storage/text.h"

#include <gtest/gtest.h>

#include <vector>

namespace headrace {
namespace {

TEST(Text, ReadsSizesInBothSystems) {
  EXPECT_EQ(parse_size("0"), 0u);
  EXPECT_EQ(parse_size("4096"), 4096u);
  EXPECT_EQ(parse_size("7B"), 7u);
  EXPECT_EQ(parse_size("512MiB"), 512u << 20);
  EXPECT_EQ(parse_size("2GB"), 2'000'000'000u);
  EXPECT_EQ(parse_size("2gib"), 2ULL << 30);
  EXPECT_EQ(parse_size("1.5 GiB"), 3ULL << 29);
  EXPECT_EQ(parse_size("16TiB"), 16ULL << 40);
}

TEST(Text, RefusesWhatIsNoSize) {
  for (const char* bad : {"", " ", "MiB", "-1", "+1", "1.5", "1.5B", "1e3", "12MiBs", "0x10", "1..5GB",
                          ".5GB", "5.GB", "99999999999TiB", "18446744073709551616", "1 2", "nan", "1  GB"}) {
    EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
  }
}

TEST(Text, ExactSizesReadBack) {
  for (const uint64_t bytes :
       {0ULL, 1ULL, 4096ULL, 4097ULL, 1ULL << 22, 3ULL << 40, 1'000'000'000ULL, ~0ULL}) {
    EXPECT_EQ(parse_size(exact_size(bytes)), bytes) << exact_size(bytes);
  }
  EXPECT_EQ(exact_size(4 << 20), "4MiB");
}

TEST(Text, WritesSizesCountsAndDurations) {
  EXPECT_EQ(format_size(17), "17 B");
  EXPECT_EQ(format_size(1536), "1.50 KiB");
  EXPECT_EQ(format_size(512ULL << 20), "512.0 MiB");
  EXPECT_EQ(format_count(124'439'808), "124.4 M");
  EXPECT_EQ(format_count(17), "17");
  EXPECT_EQ(format_duration(8.44), "8.4 s");
  EXPECT_EQ(format_duration(192), "3 min 12 s");
  EXPECT_EQ(format_duration(4 * 3600 + 300), "4 h 05 min");
}

TEST(Text, ReadsOnlyWholeCountsAndFiniteNumbers) {
  EXPECT_EQ(parse_count("18446744073709551615"), ~0ULL);
  EXPECT_EQ(parse_number("6e-4"), 6e-4);
  for (const char* bad : {"", "-1", "1 ", "1.0", "18446744073709551616"})
    EXPECT_EQ(parse_count(bad), std::nullopt) << bad;
  for (const char* bad : {"", "nan", "inf", "1,5", "1e999", "x"})
    EXPECT_EQ(parse_number(bad), std::nullopt) << bad;
}

TEST(Text, NamesTheNearestKnownName) {
  const std::vector<std::string> names{"batch", "micro-batch", "seq", "seed", "steps", "schedule"};
  EXPECT_EQ(nearest_name("bacth", names), "batch");
  EXPECT_EQ(nearest_name("BATCH", names), "batch");
  EXPECT_EQ(nearest_name("step", names), "steps");
  EXPECT_EQ(nearest_name("sequence", names), "seq");
  EXPECT_EQ(nearest_name("microbatch", names), "micro-batch");
  EXPECT_EQ(nearest_name("verbose", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name(std::string(100000, 'x'), names), "");
  EXPECT_EQ(suggestion("bacth", names), "did you mean 'batch'?");
  EXPECT_EQ(suggestion("zzzzzz", std::vector<std::string>{"a", "b"}), "known: a, b");
}

TEST(Text, ShowsNoControlCharacters) {
  EXPECT_EQ(printable("a\x1b[31m\nb"), "a\\x1b[31m\\x0ab");
  EXPECT_EQ(printable("abcdef", 3), "abc...");
}

}  // namespace
}  // namespace headrace

#include "storage/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace headrace {
namespace {

std::string nested(size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); }

TEST(Json, NestsAsDeepAsAllowedAndNoDeeper) {
  EXPECT_FALSE(nests_too_deep(nested(kMostJsonNesting)));
  EXPECT_TRUE(parse_json<nlohmann::json>(nested(kMostJsonNesting)).is_array());
  EXPECT_TRUE(nests_too_deep(nested(kMostJsonNesting + 1)));
  EXPECT_TRUE(parse_json<nlohmann::json>(nested(kMostJsonNesting + 1)).is_discarded());
  EXPECT_TRUE(parse_json<nlohmann::ordered_json>(nested(kMostJsonNesting + 1)).is_discarded());
}

TEST(Json, ObjectsNestAsListsDo) {
  std::string text = "1";
  for (int i = 0; i < kMostJsonNesting; i++) text = R"({"a":)" + text + "}";
  EXPECT_TRUE(parse_json<nlohmann::json>(text).is_object());
  EXPECT_TRUE(parse_json<nlohmann::json>("[" + text + "]").is_discarded());
}

TEST(Json, ListsSideBySideAreNotDeep) {
  std::string text = "[";
  for (int i = 0; i < 1000; i++) text += "[{}],";
  EXPECT_TRUE(parse_json<nlohmann::json>(text + "[]]").is_array());
}

TEST(Json, BracketsInTextsDoNotCount) {
  const std::string text = R"(["\"\\)" + std::string(1000, '[') + R"(\\", "{"])";
  EXPECT_EQ(parse_json<nlohmann::json>(text).size(), 2u);
  // Behind a text that ends in a backslash they do.
  EXPECT_TRUE(parse_json<nlohmann::json>(R"(["\\",)" + nested(1000) + "]").is_discarded());
}

TEST(Json, WhatIsNoJsonIsDiscarded) {
  for (const char* text : {"", "[", "]", "{\"a\"}", "\"", "\\", "1e999", "[1] 2"})
    EXPECT_TRUE(parse_json<nlohmann::json>(text).is_discarded()) << text;
}

}  // namespace
}  // namespace headrace

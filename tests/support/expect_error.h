// For tests of what fails, and how it says so.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "storage/error.h"

namespace headrace::testing {

// Runs `action`, which must throw an Error of this kind whose text holds `text`.
inline void expect_error(ErrorKind kind, const std::string& text, const std::function<void()>& action) {
  try {
    action();
    ADD_FAILURE() << "no error; expected one with: " << text;
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr(text));
  }
}

}  // namespace headrace::testing

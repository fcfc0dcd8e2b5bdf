#include "engine/train/cursor.h"

#include <gtest/gtest.h>

#include "storage/error.h"

namespace headrace::train {
namespace {

TEST(Cursor, ReadsBack) {
  for (const bool in_flight : {false, true}) {
    const Cursor cursor = parse_cursor(cursor_json({.step = 412, .next_in_flight = in_flight}));
    EXPECT_EQ(cursor.step, 412u);
    EXPECT_EQ(cursor.next_in_flight, in_flight);
  }
  for (const char* text : {"", "{}", "[]", "{\"step\":-1}", "{\"step\":\"1\"}"})
    EXPECT_THROW(parse_cursor(text), Error);
}

TEST(Cursor, SaysWhatWasInFlight) {
  EXPECT_EQ(describe_resume({.step = 412}, 1), "resuming at step 412");
  EXPECT_EQ(describe_resume({.step = 412, .next_in_flight = true}, 1),
            "resuming at step 412; step 413 was in flight");
  EXPECT_EQ(describe_resume({.step = 410, .next_in_flight = true}, 10),
            "resuming at step 410; step 411 or one of the next, not committed yet, was in flight");
}

}  // namespace
}  // namespace headrace::train

#include "engine/train/text_data.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <functional>
#include <numeric>

#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::train {
namespace {

std::string text_of(size_t size) {
  std::string text(size, ' ');
  for (size_t i = 0; i < size; ++i) text[i] = static_cast<char>((i * 7 + i / 251) & 0xff);
  return text;
}

std::string error_of(const std::function<void()>& action, ErrorKind kind = ErrorKind::kUsage) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(TextData, CutsWindowsThatShareTheirLastByteWithTheNext) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path, text_of(41));
  for (const auto& [seq, windows] :
       {std::pair<uint64_t, uint64_t>{8, 5}, {10, 4}, {40, 1}, {39, 1}, {1, 40}}) {
    EXPECT_EQ(TextData({path, seq, 1, 0}).windows(), windows) << seq;
  }
  TextData data({path, 8, 2, 0});
  BatchData batch;
  data.read_windows(std::vector<uint64_t>{4, 0}, batch);
  const std::string text = text_of(41);
  ASSERT_EQ(batch.inputs.size(), 16u);
  for (size_t i = 0; i < 8; ++i) {
    EXPECT_EQ(batch.inputs[i], static_cast<unsigned char>(text[32 + i]));
    EXPECT_EQ(batch.targets[i], static_cast<unsigned char>(text[33 + i]));
    EXPECT_EQ(batch.inputs[8 + i], static_cast<unsigned char>(text[i]));
  }
}

TEST(TextData, TakesEachWindowOnceAnEpoch) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path, text_of(1000));
  TextData data({path, 7, 5, 3});
  const uint64_t n = data.windows();
  std::vector<std::vector<uint64_t>> orders;
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    std::vector<uint64_t> order;
    for (uint64_t i = 0; i < n; ++i) order.push_back(data.window_of(epoch * n + i));
    orders.push_back(order);
    std::sort(order.begin(), order.end());
    std::vector<uint64_t> all(n);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(order, all);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_NE(orders[1], orders[2]);
}

TEST(TextData, FollowsOneEpochWithTheNextInsideABatch) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path, text_of(100));
  TextData data({path, 9, 4, 1});  // 11 windows, 4 a step
  BatchData batch, expected;
  data.fetch(2, batch);  // samples 8 to 11: the last three of an epoch, then the
                         // first of the next
  data.read_windows(
      std::vector<uint64_t>{data.window_of(8), data.window_of(9), data.window_of(10), data.window_of(11)},
      expected);
  EXPECT_EQ(batch.inputs, expected.inputs);
  EXPECT_EQ(batch.targets, expected.targets);
}

TEST(TextData, GivesTheSameBatchesAfterAResumeInTheMiddleOfAnEpoch) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path, text_of(5000));
  TextData straight({path, 16, 3, 42});
  std::vector<std::vector<int32_t>> batches;
  BatchData batch;
  for (uint64_t step = 0; step < 250; ++step) {
    straight.fetch(step, batch);
    batches.push_back(batch.inputs);
  }
  TextData resumed({path, 16, 3, 42});
  for (uint64_t step = 131; step < 250; ++step) {
    resumed.fetch(step, batch);
    EXPECT_EQ(batch.inputs, batches[step]) << step;
  }
}

// The order is computed: going through all the steps before would never end.
TEST(TextData, FindsAStepHoweverFarItIs) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path, text_of(5000));
  const TextData data({path, 16, 3, 42});
  const uint64_t epoch = uint64_t{1} << 50, first_sample = epoch * data.windows();
  std::vector<bool> taken(data.windows(), false);
  for (uint64_t i = 0; i < data.windows(); i++) taken[data.window_of(first_sample + i)] = true;
  EXPECT_EQ(std::count(taken.begin(), taken.end(), true), int64_t(data.windows()));
  BatchData batch, expected;
  const uint64_t step = first_sample / 3 + 1;
  data.fetch(step, batch);
  data.read_windows(std::vector<uint64_t>{data.window_of(3 * step), data.window_of(3 * step + 1),
                                          data.window_of(3 * step + 2)},
                    expected);
  EXPECT_EQ(batch.inputs, expected.inputs);
}

TEST(TextData, OrdersByItsSeed) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path, text_of(5000));
  TextData a({path, 16, 1, 1}), b({path, 16, 1, 2});
  uint64_t equal = 0;
  for (uint64_t i = 0; i < a.windows(); ++i) equal += a.window_of(i) == b.window_of(i) ? 1 : 0;
  EXPECT_LT(equal, a.windows() / 4);
}

TEST(TextData, SaysWhatIsWrongWithAFile) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  auto open = [&](uint64_t seq) { return [&path, seq] { TextData({path, seq, 1, 0}); }; };
  EXPECT_NE(error_of(open(4)).find("No such file or directory"), std::string::npos);
  testing::write_file(path, "");
  EXPECT_NE(error_of(open(4)).find("is empty"), std::string::npos);
  testing::write_file(path, "abcd");
  EXPECT_NE(error_of(open(4)).find("too short: 4 bytes, and one sequence of 4 tokens takes 5"),
            std::string::npos);
  EXPECT_NE(error_of(open(~0ULL)).find("too short"), std::string::npos);
  EXPECT_NE(error_of([&] {
              TextData({directory.path(), 4, 1, 0});
            }).find("is a directory"),
            std::string::npos);
  EXPECT_NE(error_of([] { TextData({"/dev/zero", 4, 1, 0}); }).find("not a regular file"), std::string::npos);
  const std::string pipe = directory / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_NE(error_of([&] { TextData({pipe, 4, 1, 0}); }).find("not a regular file"), std::string::npos);
}

TEST(TextData, TellsChangedDataByTheirFingerprint) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  std::string text = text_of(3 << 20);
  testing::write_file(path, text);
  const std::string fingerprint = TextData({path, 16, 1, 0}).fingerprint();
  EXPECT_EQ(TextData({path, 64, 9, 5}).fingerprint(), fingerprint);
  TextData({path, 16, 1, 0}).expect_fingerprint(fingerprint);
  text.back() ^= 1;
  testing::write_file(path, text);
  EXPECT_NE(error_of([&] {
              TextData({path, 16, 1, 0}).expect_fingerprint(fingerprint);
            }).find("is not the one"),
            std::string::npos);
  text.back() ^= 1;
  testing::write_file(path, text + "x");
  EXPECT_NE(TextData({path, 16, 1, 0}).fingerprint(), fingerprint);
}

TEST(TextData, NoticesAFileThatShrinksWhileItIsUsed) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path, text_of(100));
  TextData data({path, 9, 11, 0});
  testing::write_file(path, text_of(50));
  BatchData batch;
  EXPECT_NE(error_of([&] { data.fetch(0, batch); }, ErrorKind::kFailed).find("ends at offset"),
            std::string::npos);
}

TEST(TextData, RefusesABytePastTheVocabulary) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "text";
  testing::write_file(path,
                      "abcabcabc\xff"
                      "abcabc");
  TextData data({path, 5, 1, 0, 128});
  BatchData batch;
  EXPECT_NE(
      error_of([&] { data.read_windows(std::vector<uint64_t>{1}, batch); }).find("byte 255 at offset 9"),
      std::string::npos);
}

}  // namespace
}  // namespace headrace::train

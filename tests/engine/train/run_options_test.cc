#include "engine/train/run_options.h"

#include <gtest/gtest.h>

#include <set>

#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::train {
namespace {

RunOptions unusual() {
  RunOptions o;
  o.model = "/a \"quoted\" \\path/config.json";
  o.data = "/tmp/\xc3\xa9t\xc3\xa9.txt";
  o.batch = 7;
  o.lr = 1.0 / 3;
  o.min_lr = 0;
  o.schedule = LrSchedule::kLinear;
  o.weights = WeightPrecision::kBfloat16;
  o.seed = ~0ULL >> 1;
  o.block_bytes = 12345;
  o.schedule_steps = 99;
  return o;
}

const RunOption& option(const std::string& name) {
  for (const RunOption& entry : run_option_table()) {
    if (entry.name == name) return entry;
  }
  throw std::runtime_error("no option " + name);
}

TEST(RunOptions, HaveNamesThatDoNotRepeat) {
  std::set<std::string> names;
  for (const RunOption& entry : run_option_table())
    EXPECT_TRUE(names.insert(entry.name).second) << entry.name;
}

TEST(RunOptions, ReadBackFromJsonAsTheyWere) {
  const RunOptions back = run_options_from_json(run_options_json(unusual()));
  for (const RunOption& entry : run_option_table())
    EXPECT_EQ(entry.get(back), entry.get(unusual())) << entry.name;
  EXPECT_EQ(back.lr, 1.0 / 3);
}

TEST(RunOptions, KeepANumberUnsaidUntilItIsSaid) {
  RunOptions o;
  EXPECT_EQ(option("dropout").get(o), "");
  EXPECT_FALSE(run_options_from_json(run_options_json(o)).dropout.has_value());
  EXPECT_EQ(option("dropout").set(o, "0"), "");
  EXPECT_EQ(run_options_from_json(run_options_json(o)).dropout, 0.0);
}

TEST(RunOptions, TakeDefaultsWhereAnEarlierVersionHadNoOption) {
  EXPECT_EQ(run_options_from_json("{\"lr\":\"0.5\"}").lr, 0.5);
  EXPECT_EQ(run_options_from_json("{}").batch, RunOptions{}.batch);
}

TEST(RunOptions, RefuseDamagedJson) {
  for (const char* bad : {"", "[]", "{\"model\":1}", "{\"modle\":\"gpt2\"}"})
    EXPECT_THROW(run_options_from_json(bad), Error) << bad;
  std::string json = run_options_json(unusual());
  json.replace(json.find("\"7\""), 3, "\"0\"");
  EXPECT_THROW(run_options_from_json(json), Error);
}

TEST(RunOptions, KeepTheirLimits) {
  RunOptions o;
  for (const auto& [name, text] : std::vector<std::pair<std::string, std::string>>{
           {"batch", "0"},        {"batch", "-1"},
           {"batch", "4.0"},      {"seq", "0"},
           {"lr", "0"},           {"lr", "nan"},
           {"lr", "inf"},         {"beta1", "1"},
           {"beta2", "-0.1"},     {"clip", "-1"},
           {"eps", "0"},          {"weights", "fp16"},
           {"schedule", "cosin"}, {"dropout", "1"},
           {"dropout", "-0.1"},   {"dropout", "half"},
           {"block-size", "1"},   {"block-size", "lots"},
           {"model", ""},         {"data", std::string("a\0b", 3)},
           {"data", "\xff"},      {"data", std::string(5000, 'a')}}) {
    EXPECT_NE(option(name).set(o, text), "") << name << " " << text;
  }
  EXPECT_EQ(option("batch").set(o, "0"), "'0' is not a whole number from 1 to 1048576");
  EXPECT_EQ(option("beta1").set(o, "1"), "'1' is not a number of at least 0 and below 1");
  EXPECT_EQ(option("schedule").set(o, "cosin"), "'cosin' is not known; known: cosine, linear, constant");
  EXPECT_EQ(option("beta1").set(o, "0"), "");
  EXPECT_EQ(option("clip").set(o, "-0"), "");
  EXPECT_EQ(option("clip").get(o), "0");
}

TEST(RunOptions, MustAgreeWithEachOther) {
  RunOptions o = unusual();
  check_run_options(o);
  o.micro_batch = 8;
  EXPECT_THROW(check_run_options(o), Error);
  o = unusual();
  o.min_lr = 1;
  EXPECT_THROW(check_run_options(o), Error);
  o = unusual();
  EXPECT_NO_THROW(require_data(o));
  o.data.clear();
  EXPECT_THROW(require_data(o), Error);
}

TEST(RunOptions, AreWrittenToTheRun) {
  testing::TemporaryDirectory run;
  write_run_config(run.path(), unusual());
  const std::string text = testing::read_file(run_config_path(run.path()));
  EXPECT_NE(text.find("model = \"/a \\\"quoted\\\" \\\\path/config.json\"\n"), std::string::npos) << text;
  EXPECT_NE(text.find("batch = 7\n"), std::string::npos);
  EXPECT_THROW(write_run_config(run / "missing", unusual()), Error);
}

}  // namespace
}  // namespace headrace::train

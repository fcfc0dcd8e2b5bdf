// What a config.json of a recurrent model may say, and what becomes of one that is hostile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include <nlohmann/json.hpp>

#include "models/recurrent_cells.h"
#include "models/recurrent_model.h"
#include "models/registry.h"
#include "storage/error.h"

namespace headrace::models {
namespace {

using ::testing::HasSubstr;

std::string with(const std::string& fields) { return R"({"model_type": "lstm", )" + fields + "}"; }

std::string problem(const std::string& json) {
  try {
    parse_model(json, "config.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return std::string(error.what()) + " / " + error.advice();
  }
  return "accepted";
}

TEST(RecurrentConfig, TakesDefaultsForWhatIsMissing) {
  for (const RecurrentCell& cell : recurrent_cells()) {
    const ModelConfig model = parse_model(R"({"model_type": ")" + cell.name + R"("})", "config.json");
    EXPECT_EQ(model.json, load_model(cell.name).json);
    EXPECT_EQ(Json::parse(model.json).at("hidden_size"), 512);
  }
}

TEST(RecurrentConfig, ReadsItsOwnJsonBack) {
  const RecurrentConfig config{"gru", 300, 17, 33, 3};
  const RecurrentConfig back = parse_recurrent(to_json(config), "catalog");
  EXPECT_EQ(to_json(back), to_json(config));
  EXPECT_EQ(back.num_layers, 3U);
}

TEST(RecurrentConfig, RefusesFieldsThatCannotBe) {
  for (const char* field : {"vocab_size", "embedding_size", "hidden_size", "num_layers"})
    for (const char* value : {"0", "-1", "1.5", "\"12\"", "1e99", "true", "[12]", "{}", "null",
                              "18446744073709551616", "18446744073709551615", "99999999"}) {
      const std::string bad = std::string("\"") + field + "\": " + value;
      EXPECT_THAT(problem(with(bad)), HasSubstr(std::string("config.json: ") + field + " is ")) << bad;
      EXPECT_THAT(problem(with(bad)), HasSubstr("not a whole number from 1 to ")) << bad;
    }
  for (const char* bad : {R"("dropout": 0.5)", R"("dropout": "none")", R"("dropout": -1)"})
    EXPECT_THAT(problem(with(bad)), HasSubstr("recurrent models have none")) << bad;
  EXPECT_EQ(problem(with(R"("dropout": 0, "_comment": "mine")")), "accepted");
  EXPECT_THAT(problem(with(R"("hiden_size": 5)")), HasSubstr("did you mean 'hidden_size'?"));
}

// The largest that the fields allow: what does not fit into tables of tensors is refused, not allocated.
TEST(RecurrentConfig, MakesTablesOfAnySizeItAccepts) {
  const ModelConfig model = parse_model(
      with(R"("vocab_size": 16777216, "embedding_size": 131072, "hidden_size": 131072, "num_layers": 4096)"),
      "config.json");
  train::RunOptions run;
  run.batch = 8;
  const auto built = build_model(model, run);
  EXPECT_EQ(built->tensors().size(), 1 + 4 * 4096 + 2);
}

}  // namespace
}  // namespace headrace::models

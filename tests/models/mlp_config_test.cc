// What a perceptron's config.json, the options and the data may say, and that everything else is refused.
#include "models/mlp_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "models/registry.h"
#include "storage/error.h"

namespace headrace::models {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// Data of which only the shape matters.
class Shaped : public train::DataSet {
 public:
  explicit Shaped(const train::DataShape& shape) : DataSet("data"), shape_(shape) {}
  train::DataShape shape() const override { return shape_; }
  std::string description() const override { return {}; }
  const std::string& fingerprint() const override { return fingerprint_; }
  void fetch(uint64_t, train::BatchData&) const override {}
  uint64_t evaluation_batches() const override { return 0; }
  void fetch_evaluation(uint64_t, train::BatchData&) const override {}

 private:
  train::DataShape shape_;
  std::string fingerprint_;
};

const Shaped kImages({.samples = 9, .feature_columns = 784, .classes = 10, .value_columns = 0});
const Shaped kValues({.samples = 9, .feature_columns = 4, .classes = 0, .value_columns = 2});

std::string mlp_with(const std::string& fields) { return R"({"model_type": "mlp", )" + fields + "}"; }

// What is wrong with a configuration, or "accepted" where it can be built.
std::string problem(const std::string& json, const train::RunOptions& run = {},
                    const train::DataSet* data = nullptr) {
  try {
    ModelConfig config = parse_model(json, "config.json");
    settle(config, run, nullptr);
    if (data != nullptr) settle(config, run, data);
    build_model(config, run);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage) << error.what();
    EXPECT_LT(std::string(error.what()).size(), 500u);
    return std::string(error.what()) + " / " + error.advice();
  }
  return "accepted";
}

TEST(MlpConfig, RefusesFieldsThatCannotBe) {
  for (const char* bad : {R"("features": 0)",
                          R"("features": -1)",
                          R"("features": 1.5)",
                          R"("features": "784")",
                          R"("features": 1e99)",
                          R"("features": true)",
                          R"("features": [784])",
                          R"("features": 18446744073709551616)",
                          R"("features": 16777217)",
                          R"("outputs": 0)",
                          R"("outputs": -3)",
                          R"("outputs": {})",
                          R"("outputs": 1e9)",
                          R"("hidden": 128)",
                          R"("hidden": "128")",
                          R"("hidden": [0])",
                          R"("hidden": [-5])",
                          R"("hidden": [128, 2.5])",
                          R"("hidden": [[128]])",
                          R"("hidden": [16777217])",
                          R"("hidden": {"0": 128})",
                          R"("hidden": [128, null])",
                          R"("activation": 7)",
                          R"("activation": [])",
                          R"("loss": true)",
                          R"("loss": {})",
                          R"("norm": 1)",
                          R"("norm": ["layer"])",
                          R"("dropout": 1)",
                          R"("dropout": -0.5)",
                          R"("dropout": 2)",
                          R"("dropout": "0.1")",
                          R"("dropout": [0.1])",
                          R"("dropout": true)"}) {
    EXPECT_THAT(problem(mlp_with(bad)), HasSubstr("config.json: ")) << bad;
    EXPECT_THAT(problem(mlp_with(bad)), HasSubstr(", not a")) << bad;
  }
}

TEST(MlpConfig, RefusesMoreThanAModelCanBe) {
  std::string layers;
  for (int i = 0; i < 1025; i++) layers += i == 0 ? "1" : ", 1";
  EXPECT_THAT(problem(mlp_with(R"("features": 1, "outputs": 1, "hidden": [)" + layers + "]")),
              HasSubstr("not a list of at most 1024 widths"));
  // Each width may be, and all of them together are more than any disk holds.
  std::string wide;
  for (int i = 0; i < 1000; i++) wide += i == 0 ? "16777216" : ", 16777216";
  EXPECT_THAT(problem(mlp_with(R"("features": 16777216, "outputs": 2, "hidden": [)" + wide + "]")),
              HasSubstr("parameters, and at most"));
}

TEST(MlpConfig, NamesTheNearestKnownFieldAndValue) {
  EXPECT_THAT(problem(mlp_with(R"("hiden": [3])")), HasSubstr("did you mean 'hidden'?"));
  EXPECT_THAT(problem(mlp_with(R"("activation": "rulu")")), HasSubstr("did you mean 'relu'?"));
  EXPECT_THAT(problem(mlp_with(R"("loss": "mae")")), HasSubstr("which is not known"));
  EXPECT_THAT(problem(mlp_with(R"("norm": "layr")")), HasSubstr("did you mean 'layer'?"));
  train::RunOptions options;
  options.norm = "\x1b[31mgroup";
  EXPECT_THAT(problem(R"({"model_type": "mlp"})", options), HasSubstr("which is not known"));
  const std::string escaped = problem(mlp_with("\"\\u001b[31m\": 1"));
  EXPECT_THAT(escaped, HasSubstr("is not known"));
  EXPECT_EQ(escaped.find('\x1b'), std::string::npos);
}

TEST(MlpConfig, TakesWhatIsMissingFromOptionsDataAndDefaults) {
  ModelConfig config =
      parse_model(R"({"model_type": "mlp", "features": null, "_comment": 1})", "config.json");
  settle(config, {}, &kImages);
  const MlpConfig built = mlp_config(Json::parse(config.json));
  EXPECT_EQ(built.features, 784u);
  EXPECT_EQ(built.outputs, 10u);
  EXPECT_EQ(built.hidden, std::vector<uint64_t>{128});
  EXPECT_EQ(built.activation, Activation::kRelu);
  EXPECT_EQ(built.dropout, 0);
  EXPECT_EQ(built.loss, Loss::kCrossEntropy);
  EXPECT_THAT(problem(R"({"model_type": "mlp"})"), HasSubstr("number of features is not known"));
  EXPECT_THAT(problem(mlp_with(R"("features": 3)")), HasSubstr("number of outputs is not known"));

  train::RunOptions options;
  options.hidden = "20,30";
  options.dropout = 0.25;
  config = parse_model(R"({"model_type": "mlp"})", "config.json");
  settle(config, options, nullptr);
  settle(config, options, &kValues);
  settle(config, options, &kValues);  // what is settled stays
  const MlpConfig other = mlp_config(Json::parse(config.json));
  EXPECT_EQ(other.hidden, (std::vector<uint64_t>{20, 30}));
  EXPECT_EQ(other.dropout, 0.25);
  EXPECT_EQ(other.loss, Loss::kSquaredError);
  EXPECT_EQ(other.outputs, 2u);
}

TEST(MlpConfig, RefusesOptionsThatAreNoWidths) {
  for (const char* bad : {"", ",", "128,", "0", "-1", "1e3", "16777217", "12 8", "18446744073709551617"}) {
    EXPECT_THROW(hidden_of(bad), Error) << bad;
  }
}

TEST(MlpConfig, RefusesWhatDoesNotAgree) {
  train::RunOptions options;
  options.hidden = "20";
  EXPECT_THAT(problem(mlp_with(R"("hidden": [21])"), options), HasSubstr("--hidden says [20]"));
  options = {};
  options.dropout = 0.5;
  EXPECT_THAT(problem(mlp_with(R"("dropout": 0.1)"), options), HasSubstr("--dropout says 0.5"));
  EXPECT_THAT(problem(mlp_with(R"("features": 5)"), {}, &kImages), HasSubstr("number of features is 784"));
  EXPECT_THAT(problem(mlp_with(R"("outputs": 9)"), {}, &kImages), HasSubstr("have 10 classes"));
  EXPECT_THAT(problem(mlp_with(R"("loss": "mse")"), {}, &kImages), HasSubstr("wants values"));
  EXPECT_THAT(problem(mlp_with(R"("loss": "cross_entropy")"), {}, &kValues), HasSubstr("wants classes"));
  options = {};
  options.batch = 1;
  EXPECT_THAT(problem(mlp_with(R"("norm": "batch")"), options),
              HasSubstr("at least 2 rows, and --batch is 1"));
  EXPECT_EQ(problem(mlp_with(R"("norm": "layer")"), options, &kImages), "accepted");
  EXPECT_EQ(problem(mlp_with(R"("outputs": 12)"), {}, &kImages), "accepted");  // classes that do not occur
}

TEST(MlpConfig, HoldsSoftmaxRegressionToOneLayer) {
  const auto regression = [](const std::string& fields) {
    return problem(R"({"model_type": "softmax-regression", "features": 5, "outputs": 3)" + fields + "}");
  };
  EXPECT_EQ(regression(""), "accepted");
  EXPECT_EQ(regression(R"(, "hidden": [])"), "accepted");
  for (const char* bad :
       {R"(, "hidden": [5])", R"(, "loss": "mse")", R"(, "dropout": 0.1)", R"(, "norm": "layer")"})
    EXPECT_THAT(regression(bad), HasSubstr("softmax regression has")) << bad;
}

}  // namespace
}  // namespace headrace::models

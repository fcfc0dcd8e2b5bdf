#include "models/gpt2_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "models/registry.h"
#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::models {
namespace {

using ::testing::HasSubstr;

std::string problem(const std::string& json) {
  try {
    parse_model(json, "config.json");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kUsage);
    return std::string(error.what()) + " / " + error.advice();
  }
  return "accepted";
}

std::string gpt2_with(const std::string& fields) { return R"({"model_type": "gpt2", )" + fields + "}"; }

TEST(ModelConfig, KnowsGpt2InItsFourSizes) {
  EXPECT_EQ(parameter_count(gpt2_config(load_model("gpt2").json)), 124'439'808u);
  EXPECT_EQ(parameter_count(gpt2_config(load_model("gpt2-medium").json)), 354'823'168u);
  EXPECT_EQ(parameter_count(gpt2_config(load_model("gpt2-large").json)), 774'030'080u);
  EXPECT_EQ(parameter_count(gpt2_config(load_model("gpt2-xl").json)), 1'557'611'200u);
  for (const std::string& name : gpt2_names())
    EXPECT_EQ(gpt2_config(load_model(name).json).vocab_size, 50257u);
}

TEST(ModelConfig, RefusesListsThatNestDeep) {
  const std::string deep = std::string(300000, '[') + std::string(300000, ']');
  for (const char* type : {"gpt2", "mlp", "gcn", "lstm"})
    EXPECT_THAT(problem(R"({"hidden": )" + deep + R"(, "model_type": ")" + type + "\"}"),
                HasSubstr("config.json: it nests deeper than 64"));
}

TEST(ModelConfig, ReadsHuggingFacesFileOfGpt2) {
  const ModelConfig model = parse_model(R"({
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
    "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_inner": null,
    "n_layer": 12, "n_positions": 1024, "resid_pdrop": 0.1, "summary_activation": null,
    "summary_first_dropout": 0.1, "summary_proj_to_labels": true, "summary_type": "cls_index",
    "summary_use_proj": true, "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
    "vocab_size": 50257})",
                                        "config.json");
  EXPECT_EQ(gpt2_config(model.json), gpt2_config(load_model("gpt2").json));
  ASSERT_EQ(model.notes.size(), 3u);
  EXPECT_EQ(model.notes[0], "config.json: attn_pdrop = 0.1: dropout is not applied");
}

TEST(ModelConfig, TakesDefaultsAndOtherNamesOfFields) {
  const ModelConfig model = parse_model(
      gpt2_with(R"("num_hidden_layers": 3, "hidden_size": 66, "num_attention_heads": 6, "attn_pdrop": 0)"),
      "c");
  EXPECT_EQ(gpt2_config(model.json).n_layer, 3u);
  EXPECT_EQ(gpt2_config(model.json).n_embd, 66u);
  EXPECT_EQ(gpt2_config(model.json).n_head, 6u);
  EXPECT_EQ(gpt2_config(model.json).n_inner, 264u);
  EXPECT_EQ(gpt2_config(model.json).n_positions, 1024u);
  EXPECT_TRUE(model.notes.empty());
}

TEST(ModelConfig, ReadsItsOwnJsonBack) {
  Gpt2Config config{101, 33, 20, 3, 5, 70, 1e-6, 0.05};
  EXPECT_EQ(gpt2_config(parse_model(to_json(config), "catalog").json), config);
}

TEST(ModelConfig, RefusesFieldsThatCannotBe) {
  for (const char* bad :
       {R"("n_layer": 0)", R"("n_layer": -1)", R"("n_layer": 1.5)", R"("n_layer": "12")",
        R"("n_layer": 1e99)", R"("n_layer": true)", R"("n_layer": [12])", R"("n_embd": 18446744073709551616)",
        R"("n_embd": 999999999)", R"("vocab_size": {})", R"("layer_norm_epsilon": 0)",
        R"("layer_norm_epsilon": "1e-5")", R"("initializer_range": -1)", R"("attn_pdrop": 2)"}) {
    EXPECT_THAT(problem(gpt2_with(bad)), HasSubstr("config.json: ")) << bad;
    EXPECT_THAT(problem(gpt2_with(bad)), HasSubstr(", not a")) << bad;
  }
  EXPECT_THAT(problem(gpt2_with(R"("n_embd": 100, "n_head": 12)")),
              HasSubstr("n_embd 100 is not a multiple"));
}

TEST(ModelConfig, RefusesVariantsThatItDoesNotCompute) {
  for (const char* bad : {R"("tie_word_embeddings": false)", R"("scale_attn_by_inverse_layer_idx": true)",
                          R"("scale_attn_weights": false)", R"("add_cross_attention": true)",
                          R"("activation_function": "relu")", R"("activation_function": 7)"}) {
    EXPECT_THAT(problem(gpt2_with(bad)), HasSubstr("is not supported")) << bad;
  }
  EXPECT_EQ(problem(gpt2_with(R"("tie_word_embeddings": true, "reorder_and_upcast_attn": true)")),
            "accepted");
}

TEST(ModelConfig, NamesTheNearestKnownModelTypeAndField) {
  EXPECT_THAT(problem(R"({"model_type": "gtp2"})"), HasSubstr("did you mean 'gpt2'?"));
  EXPECT_THAT(problem(R"({"model_type": "llama"})"), HasSubstr("known: gpt2"));
  EXPECT_THAT(problem(R"({"n_layer": 2})"), HasSubstr("has no model_type"));
  EXPECT_THAT(problem(gpt2_with(R"("n_layers": 2)")), HasSubstr("did you mean 'n_layer'?"));
  EXPECT_EQ(problem(gpt2_with(R"("_name_or_path": "gpt2", "license_of_weights": "mit")")), "accepted");
}

TEST(ModelConfig, SurvivesHostileText) {
  for (const std::string& bad : {std::string(), std::string("{"), std::string("[]"), std::string("\0\0", 2),
                                 std::string(100000, '['), std::string("{\"model_type\": \"\x1b[31m\xff\"}"),
                                 std::string("nan"), std::string("{\"n_layer\": 1e999}")}) {
    const std::string message = problem(bad);
    EXPECT_THAT(message, HasSubstr("config.json: "));
    EXPECT_EQ(message.find('\x1b'), std::string::npos);
    EXPECT_LT(message.size(), 500u);
  }
}

TEST(ModelConfig, TakesAFileOrItsFolder) {
  headrace::testing::TemporaryDirectory folder;
  headrace::testing::write_file(folder / "config.json", gpt2_with(R"("n_layer": 2)"));
  EXPECT_EQ(gpt2_config(load_model(folder / "config.json").json).n_layer, 2u);
  EXPECT_EQ(gpt2_config(load_model(folder.path()).json).n_layer, 2u);
  std::filesystem::remove(folder / "config.json");
  EXPECT_THROW(load_model(folder.path()), Error);
  EXPECT_THROW(load_model(folder / "other.json"), Error);
  headrace::testing::write_file(folder / "config.json", std::string((1 << 20) + 1, ' '));
  EXPECT_THROW(load_model(folder.path()), Error);
  EXPECT_THROW(load_model("/dev/zero"), Error);
}

TEST(ModelConfig, NamesTheNearestKnownModel) {
  try {
    load_model("gpt2-meduim");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("did you mean 'gpt2-medium'?"));
  }
}

TEST(ModelConfig, RefusesASequenceWithoutPositions) {
  check_sequence(gpt2_config(load_model("gpt2").json), 1024);
  EXPECT_THROW(check_sequence(gpt2_config(load_model("gpt2").json), 1025), Error);
}

}  // namespace
}  // namespace headrace::models

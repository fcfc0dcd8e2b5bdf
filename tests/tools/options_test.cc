#include "tools/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "engine/train/run_options.h"
#include "storage/error.h"
#include "tests/support/temporary_directory.h"

namespace headrace::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr uint64_t kAvailable = 4ULL << 30;

std::string error_of(const std::function<void()>& action, ErrorKind kind = ErrorKind::kUsage) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    return std::string(error.what()) + " / " + error.advice();
  }
  return "accepted";
}

std::string refused(const std::vector<std::string>& arguments) {
  return error_of([&] { parse_train_arguments(arguments); });
}

TrainRequest new_run(std::vector<std::string> arguments) {
  arguments.insert(arguments.end(), {"run", "--model", "gpt2", "--data", "text", "--steps", "20"});
  TrainRequest request = parse_train_arguments(arguments).request;
  complete_for_new_run(request, kAvailable);
  return request;
}

TEST(TrainOptions, AreReadFromTheCommandLine) {
  const TrainRequest request =
      new_run({"--memory", "512MiB",  "--batch=8", "--lr", "1e-3",        "--weights", "bf16",
               "--io",     "threads", "--threads", "2",    "--shard-dir", "a",         "--shard-dir",
               "b",        "--json",  "--seed",    "0",    "--clip",      "0"});
  EXPECT_EQ(request.session.run_dir, "run");
  EXPECT_EQ(request.session.memory_bytes, 512u << 20);
  EXPECT_EQ(request.session.steps, 20u);
  EXPECT_EQ(request.session.threads, 2u);
  EXPECT_EQ(request.session.io, storage::IoBackend::kThreads);
  EXPECT_EQ(request.session.shard_dirs, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(request.run.batch, 8u);
  EXPECT_EQ(request.run.lr, 1e-3);
  EXPECT_EQ(request.run.clip, 0);
  EXPECT_EQ(request.run.weights, train::WeightPrecision::kBfloat16);
  EXPECT_TRUE(request.json);
  EXPECT_FALSE(request.quiet);
}

TEST(TrainOptions, CompleteANewRun) {
  const TrainRequest request = new_run({"--lr", "1e-5"});
  EXPECT_EQ(request.run.min_lr, 1e-5 / 10);
  EXPECT_EQ(request.run.schedule_steps, 20u);
  EXPECT_EQ(request.session.memory_bytes, 3ULL << 30);
  EXPECT_EQ(request.run.data, (std::filesystem::current_path() / "text").string());
  EXPECT_EQ(request.run.model, "gpt2");
}

TEST(TrainOptions, SayWhatANewRunLacks) {
  auto complete = [](std::vector<std::string> arguments) {
    TrainRequest request = parse_train_arguments(arguments).request;
    return error_of([&] { complete_for_new_run(request, kAvailable); });
  };
  EXPECT_THAT(complete({"run", "--model", "gpt2", "--data", "d"}), HasSubstr("--steps N"));
  EXPECT_THAT(complete({"run", "--model", "gpt2", "--steps", "3"}), HasSubstr("--data FILE"));
  EXPECT_THAT(complete({"run", "--data", "d", "--steps", "3"}), HasSubstr("--model M"));
  EXPECT_THAT(complete({"run", "--model", "gpt3", "--data", "d", "--steps", "3"}), HasSubstr("'gpt2'"));
  EXPECT_THAT(complete({"run", "--model", "gpt2", "--data", "d", "--steps", "3", "--seq", "2000"}),
              HasSubstr("n_positions 1024"));
  EXPECT_THAT(complete({"run", "--model", "gpt2", "--data", "d", "--steps", "3", "--eval-every", "2"}),
              HasSubstr("--eval-data"));
}

TEST(TrainOptions, BelongToTheirOptimizer) {
  auto complete = [](std::vector<std::string> arguments) {
    return error_of([&] { new_run(std::move(arguments)); });
  };
  EXPECT_THAT(complete({"--momentum", "0.9"}),
              AllOf(HasSubstr("--momentum does not apply to the optimizer adamw"),
                    HasSubstr("give --optimizer sgd")));
  EXPECT_THAT(complete({"--optimizer", "adam", "--weight-decay", "0.1"}),
              HasSubstr("--weight-decay does not apply to the optimizer adam"));
  EXPECT_THAT(complete({"--optimizer", "sgd", "--nesterov"}), HasSubstr("--momentum 0.9"));
  EXPECT_EQ(complete({"--optimizer", "sgd", "--nesterov", "--momentum", "0.9", "--l2", "0.1"}), "accepted");
}

TEST(TrainOptions, TakeTheDefaultsOfTheirOptimizer) {
  EXPECT_EQ(new_run({"--optimizer", "sgd"}).run.lr, 0.01);
  EXPECT_EQ(new_run({"--optimizer", "sgd"}).run.min_lr, 0.001);
  EXPECT_EQ(new_run({"--optimizer", "sgd", "--lr", "0.5"}).run.lr, 0.5);
  EXPECT_EQ(new_run({"--optimizer", "lion"}).run.beta2, 0.99);
  EXPECT_EQ(new_run({}).run.lr, train::RunOptions().lr);
}

TEST(TrainOptions, NameTheNearestKnownOption) {
  EXPECT_THAT(refused({"run", "--bacth", "4"}),
              AllOf(HasSubstr("unknown option --bacth"), HasSubstr("--batch?")));
  EXPECT_THAT(refused({"--step=4", "run"}), HasSubstr("unknown option --step; did you mean --steps?"));
  EXPECT_THAT(refused({"run", "--learning-rate", "4"}), HasSubstr("unknown option --learning-rate"));
  EXPECT_THAT(refused({"run", "-q"}), HasSubstr("unknown option -q"));
  EXPECT_THAT(refused({"run", "other"}), HasSubstr("unexpected argument 'other'"));
  EXPECT_THAT(refused({"run", "--\x1b[31m"}), HasSubstr("\\x1b"));
}

TEST(TrainOptions, SayWhatIsWrongWithAValue) {
  EXPECT_THAT(refused({"run", "--batch", "0"}), HasSubstr("--batch: '0' is not a whole number from 1"));
  EXPECT_THAT(refused({"run", "--batch", "-4"}), HasSubstr("--batch: '-4' is not"));
  EXPECT_THAT(refused({"run", "--lr", "fast"}), HasSubstr("--lr: 'fast' is not a number above 0"));
  EXPECT_THAT(refused({"run", "--beta2", "1"}),
              HasSubstr("--beta2: '1' is not a number of at least 0 and below 1"));
  EXPECT_THAT(refused({"run", "--memory", "lots"}), HasSubstr("--memory: 'lots' is not a size"));
  EXPECT_THAT(refused({"run", "--schedule", "cosin"}), HasSubstr("known: cosine, linear, constant"));
  EXPECT_THAT(refused({"run", "--checkpoint-level", "20"}), HasSubstr("--checkpoint-level: '20' is not"));
  EXPECT_THAT(refused({"run", "--steps"}), HasSubstr("--steps"));
  EXPECT_THAT(refused({"run", "--lr", "1", "--lr", "2"}), HasSubstr("--lr"));
  EXPECT_THAT(refused({"run", "--data", ""}), HasSubstr("--data: is empty"));
  EXPECT_THAT(refused({}), HasSubstr("no RUN was named"));
}

TEST(TrainOptions, PrintHelpThatListsThem) {
  const std::string help = parse_train_arguments({"--help"}).help;
  for (const TrainOption& option : train_options()) {
    EXPECT_EQ(help.find("--" + option.entry.name + " ") != std::string::npos, !option.hidden)
        << option.entry.name;
  }
}

TEST(ConfigFile, HoldsTheSameOptionsAndTheCommandLineWins) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "train.toml";
  testing::write_file(path, R"(
model = "gpt2"
memory = "1GiB"
steps = 50
lr = 0.001
clip = 2
shard-dir = ["x", "y"]
quiet = true
seed = 7
)");
  const TrainRequest request =
      parse_train_arguments({"run", "--config", path, "--seed", "8", "--shard-dir", "z"}).request;
  EXPECT_EQ(request.session.memory_bytes, 1ULL << 30);
  EXPECT_EQ(request.session.steps, 50u);
  EXPECT_EQ(request.run.lr, 0.001);
  EXPECT_EQ(request.run.clip, 2);
  EXPECT_EQ(request.run.seed, 8u);
  EXPECT_EQ(request.session.shard_dirs, (std::vector<std::string>{"z"}));
  EXPECT_TRUE(request.quiet);
}

TEST(ConfigFile, NamesLineAndColumnOfAFault) {
  testing::TemporaryDirectory directory;
  const std::string path = directory / "train.toml";
  auto problem = [&](const std::string& text) {
    testing::write_file(path, text);
    return refused({"run", "--config", path});
  };
  // Letters beyond ASCII where white space may stand: in the parser's tables, some were declared unreachable.
  EXPECT_THAT(problem("lr = 1 \u00e9\n"), HasSubstr("train.toml:1:8: "));
  EXPECT_THAT(problem("\ufedf lr = 1\n"), HasSubstr("train.toml:1:1: "));
  EXPECT_THAT(problem("lr = 1\n\nbatch == 4\n"), HasSubstr("train.toml:3:8: "));
  EXPECT_THAT(problem("lr = 1\nbacth = 4\n"),
              AllOf(HasSubstr("train.toml:2:9: unknown key 'bacth'"), HasSubstr("did you mean 'batch'?")));
  EXPECT_THAT(problem("batch = 4.5"),
              HasSubstr("train.toml:1:9: batch: is a number, and must be a whole number"));
  EXPECT_THAT(problem("batch = \"4\""), HasSubstr("is a text, and must be a whole number"));
  EXPECT_THAT(problem("batch = 0"), HasSubstr("batch: '0' is not a whole number from 1"));
  EXPECT_THAT(problem("batch = -1"), HasSubstr("batch: '-1' is not a whole number from 1"));
  EXPECT_THAT(problem("lr = inf"), HasSubstr("lr: 'inf' is not a number"));
  EXPECT_THAT(problem("schedule = true"), HasSubstr("is true or false, and must be a text"));
  EXPECT_THAT(problem("shard-dir = [1]"), HasSubstr("a list may hold only texts"));
  EXPECT_THAT(problem("[train]\nlr = 1"), HasSubstr("'train' is a table"));
  EXPECT_THAT(problem("lr = 1979-05-27"), HasSubstr("date or time"));
  EXPECT_THAT(problem("lr = 1\nlr = 2\n"), HasSubstr("train.toml:2:"));
  EXPECT_THAT(problem(std::string(100000, '[')), HasSubstr("train.toml:1: invalid syntax"));
  EXPECT_THAT(problem("lr = 1\n\n[.\nseed = 1\n"), HasSubstr("train.toml:3"));
  EXPECT_THAT(problem("x = " + std::string(100000, '[')), HasSubstr("train.toml:1:"));
  // Each part of a key would become a table in a table.
  std::string parts = "a";
  for (int i = 0; i < 200000; i++) parts += i % 2 == 0 ? ".b" : " . \"c.d\"";
  std::string bare = "a";
  for (int i = 0; i < 400000; i++) bare += ".b";
  // The last two hold texts that end in quotes of their own.
  for (const std::string& text :
       {parts + " = 1", "seed = 1\n[" + parts + "]\n", "x = {" + parts + " = 1}",
        R"(x = {s = """a"""", )" + bare + " = 1}", "x = {s = '''a''''', " + bare + " = 1}"})
    EXPECT_THAT(problem(text), HasSubstr("a key has more than 16 parts"));
  for (const char* unfinished : {"a = \"", "a = \"\"\"", "a = '''b''", "a = \"\\"})
    EXPECT_THAT(problem(unfinished), HasSubstr("train.toml:1:"));
  const std::string dots(100, '.');
  EXPECT_THAT(problem("# " + dots + "\nmodel = \"" + dots + "\\\"" + dots + "\" # " + dots +
                      "\ndata = \"\"\"" + dots + "\n\"" + dots + "\"\"\"\n'bad' = '" + dots + "'\n"),
              HasSubstr("train.toml:5:9: unknown key 'bad'"));
  EXPECT_THAT(problem("a.b.c = 1"), HasSubstr("'a' is a table"));
  EXPECT_THAT(refused({"run", "--config", directory / "none.toml"}), HasSubstr("No such file"));
  EXPECT_THAT(refused({"run", "--config", directory.path()}), HasSubstr("Is a directory"));
}

class ExistingRun : public ::testing::Test {
 protected:
  void SetUp() override {
    testing::write_file(data(), std::string(1000, 'x'));
    TrainRequest made = parse_train_arguments({"run", "--model", "gpt2", "--data", data(), "--steps", "20",
                                               "--lr", "0.1", "--batch", "3", "--block-size", "64KiB"})
                            .request;
    complete_for_new_run(made, kAvailable);
    made.run.data_fingerprint = "1000-8f6cb7e1d3c0e9e1a1b1a1a1a1a1a1a1";
    train::write_run_config(directory_.path(), made.run);
    run_ = read_run_config(directory_.path());
  }
  std::string data() const { return directory_ / "text"; }
  std::string resume(std::vector<std::string> arguments) {
    arguments.push_back("run");
    request_ = parse_train_arguments(arguments).request;
    return error_of([&] { complete_for_existing_run(request_, run_, kAvailable); });
  }

  testing::TemporaryDirectory directory_;
  train::RunOptions run_;
  TrainRequest request_;
};

TEST_F(ExistingRun, KeepsItsConfigurationInAFileThatReadsBack) {
  EXPECT_EQ(run_.lr, 0.1);
  EXPECT_EQ(run_.batch, 3u);
  EXPECT_EQ(run_.block_bytes, 64u << 10);
  EXPECT_EQ(run_.schedule_steps, 20u);
  EXPECT_FALSE(run_.nesterov);
  EXPECT_EQ(run_.data, data());
}

TEST_F(ExistingRun, GoesOnWithItsOwnOptions) {
  EXPECT_EQ(resume({}), "accepted");
  EXPECT_EQ(request_.run.lr, 0.1);
  EXPECT_EQ(request_.session.steps, 20u);
  EXPECT_EQ(request_.session.memory_bytes, 3ULL << 30);
}

TEST_F(ExistingRun, TakesOptionsThatSayTheSame) {
  EXPECT_EQ(
      resume({"--model", "gpt2", "--data", data(), "--lr", "1e-1", "--batch", "3", "--block-size", "65536"}),
      "accepted");
}

TEST_F(ExistingRun, LetsASessionChooseMemoryStepsThreadsAndIo) {
  EXPECT_EQ(resume({"--memory", "1GiB", "--steps", "40", "--threads", "1", "--io", "uring", "--quiet"}),
            "accepted");
  EXPECT_EQ(request_.session.steps, 40u);
  EXPECT_EQ(request_.run.schedule_steps, 20u);
}

TEST_F(ExistingRun, RefusesAContradiction) {
  EXPECT_THAT(resume({"--batch", "4"}), HasSubstr("--batch is 4, but the run run was made with 3"));
  EXPECT_THAT(resume({"--lr", "0.2"}), HasSubstr("--lr is 0.2, but the run run was made with 0.1"));
  EXPECT_THAT(resume({"--weights", "bf16"}), HasSubstr("was made with fp32"));
  EXPECT_THAT(resume({"--micro-batch", "1"}), HasSubstr("--micro-batch is 1"));
  testing::write_file(directory_ / "c.toml", "seed = 99\n");
  EXPECT_THAT(resume({"--config", directory_ / "c.toml"}), HasSubstr("c.toml:1:8: seed is 99, but"));
}

TEST_F(ExistingRun, LetsDataMove) {
  EXPECT_EQ(resume({"--data", directory_ / "moved"}), "accepted");
  EXPECT_EQ(request_.run.data, directory_ / "moved");
}

TEST_F(ExistingRun, RefusesADamagedConfiguration) {
  const std::string path = train::run_config_path(directory_.path());
  const std::string good = testing::read_file(path);
  for (const std::string& bad :
       {std::string("batch = 0\n"), std::string("\0", 1), good + "bacth = 1\n", std::string()}) {
    testing::write_file(path, bad);
    EXPECT_NE(error_of([&] { read_run_config(directory_.path()); }, ErrorKind::kCorrupt), "accepted") << bad;
  }
}

}  // namespace
}  // namespace headrace::tools

// Every fault at every system call of a whole training: creation, three steps, and reading everything back.
// Each ends in one of two ways: the training is right to the last bit, or it stops with an Error that says
// what failed where and why; then the run opens at the committed step and, finished from there, is right to
// the last bit. Where a drive lied about a write, what is lost is lost, and the content is refused.
//
// HEADRACE_ALL_FAULTS=1 tries them all, HEADRACE_FAULT_KIND=TEXT those whose kind contains TEXT; otherwise it
// is an even sample.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "models/gpt2.h"
#include "storage/error.h"
#include "tests/faults/fault_list.h"
#include "tests/faults/system_calls.h"
#include "tests/faults/tiny_training.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/training_run.h"

namespace headrace {
namespace {

using namespace testing;
using storage::IoBackend;

constexpr uint32_t kStuckMs = 300;
constexpr unsigned kHangSeconds = 300;
constexpr size_t kSample = 100, kHangSample = 8;

std::array<char, 256> under_way{};  // for the signals' handler

// A training that hangs or aborts: says which.
void on_end(int number) {
  constexpr const char* kText = "hangs or aborts: ";
  static_cast<void>(!::write(STDERR_FILENO, kText, std::strlen(kText)));
  static_cast<void>(!::write(STDERR_FILENO, under_way.data(), std::strlen(under_way.data())));
  std::signal(SIGABRT, SIG_DFL);
  if (number == SIGALRM) std::abort();
}

struct Outcome {
  enum class Kind : uint8_t { kCorrect, kStopped, kRefused, kNotMet, kWrong } kind = Kind::kWrong;
  std::string problem;  // of kWrong
};

struct Counted {
  std::array<int, 5> outcomes{};
};

class TrainingFaults : public ::testing::TestWithParam<IoBackend> {
 protected:
  void SetUp() override {
    std::signal(SIGALRM, on_end);
    std::signal(SIGABRT, on_end);
    options_.io = GetParam();
    options_.run_dir = directory_ / "run";
    options_.committed = [this](const train::StepReport& report) { committed_.push_back(report); };
    reference_ = train();
    options_.preflight = &reference_.preflight;
    reference_lines_ = metrics_lines();
    reference_committed_ = committed_;
    ASSERT_EQ(reference_committed_.size(), kTinySteps);
    start_over();
    watch_system_calls(directory_.path());
    train();
    calls_ = watched_calls();
    watch_system_calls("");
  }

  void TearDown() override { ::alarm(0); }

  TrainingResult train() { return run_training(*models::make_gpt2(tiny_config()), options_, batches_); }

  void start_over() {
    committed_.clear();
    std::filesystem::remove_all(options_.run_dir);
  }

  std::vector<std::string> metrics_lines() const {
    std::istringstream file(read_file(options_.run_dir + "/metrics.jsonl"));
    std::vector<std::string> lines;
    for (std::string line; std::getline(file, line);) {
      const auto full = nlohmann::ordered_json::parse(line);
      lines.push_back(fmt::format("{} {} {}", full.at("step").dump(), full.at("loss").dump(),
                                  full.at("grad_norm").dump()));
    }
    return lines;
  }

  // "" or what differs from the training without faults.
  std::string difference(const TrainingResult& result) const {
    if (result.digest != reference_.digest) return "another digest";
    if (metrics_lines() != reference_lines_) return "other lines in metrics.jsonl";
    return "";
  }

  // "" or what is missing in what an Error says.
  std::string missing_words(const ListedFault& listed, const WatchedCall& met, const Error& error) const {
    const std::string what = error.what();
    const auto lacks = [&](const std::string& words) { return what.find(words) == std::string::npos; };
    if (lacks(directory_.path())) return "no file";
    if (listed.fault.action == SystemAction::kFail && lacks(system_text(listed.fault.error_number)) &&
        lacks("memory"))
      return "not the system's words";
    if (listed.hangs && lacks("no answer after 0.3 seconds")) return "not that it had no answer";
    const bool payload =
        met.block_io && (met.call == SystemCall::kPread || met.call == SystemCall::kPwrite ||
                         met.call == SystemCall::kUringRead || met.call == SystemCall::kUringWrite);
    if (payload && (lacks("bytes at offset ") || !std::isdigit(what[what.find("offset ") + 7])))
      return "no offset and length";
    return "";
  }

  Outcome inject(const ListedFault& listed) {
    start_over();
    options_.stuck_ms = listed.hangs ? kStuckMs : storage::IoOptions().stuck_ms;
    watch_system_calls(directory_.path(), listed.fault);
    std::optional<Error> error;
    std::string problem;
    try {
      problem = difference(train());
    } catch (const Error& caught) {
      error = caught;
    } catch (const std::exception& other) {
      problem = std::string("not an Error: ") + other.what();
    }
    const std::optional<WatchedCall> met = met_call();
    watch_system_calls("");
    release_hung_calls();
    if (!problem.empty()) return {Outcome::Kind::kWrong, problem};
    if (!error) return {met ? Outcome::Kind::kCorrect : Outcome::Kind::kNotMet, ""};
    if (!met) return {Outcome::Kind::kWrong, std::string("an Error without a fault: ") + error->what()};
    if (const std::string missing = missing_words(listed, *met, *error); !missing.empty())
      return {Outcome::Kind::kWrong, fmt::format("the Error says {}: {}", missing, error->what())};
    return finish_after(listed, *error);
  }

  // Goes on from what is committed, with nothing wrong any more.
  Outcome finish_after(const ListedFault& listed, const Error& error) {
    const std::vector<train::StepReport> before = std::exchange(committed_, {});
    for (size_t i = 0; i < before.size(); i++)
      if (before[i].loss != reference_committed_[i].loss)
        return {Outcome::Kind::kWrong, fmt::format("a wrong loss before the Error: {}", error.what())};
    options_.stuck_ms = storage::IoOptions().stuck_ms;
    try {
      if (const std::string problem = difference(train()); !problem.empty())
        return {Outcome::Kind::kWrong, fmt::format("{} after the Error: {}", problem, error.what())};
    } catch (const std::exception& again) {
      const auto* const refused = dynamic_cast<const Error*>(&again);
      if (listed.lies && refused != nullptr && refused->kind() == ErrorKind::kCorrupt)
        return {Outcome::Kind::kRefused, ""};
      return {Outcome::Kind::kWrong, fmt::format("{} after the Error: {}", again.what(), error.what())};
    }
    const uint64_t at = kTinySteps - committed_.size();
    // A step is reported when the one after it has run, so two may have been committed beyond the reported.
    if (at < before.size() || at > before.size() + 2)
      return {Outcome::Kind::kWrong, fmt::format("went on from step {} where {} were committed: {}", at,
                                                 before.size(), error.what())};
    return {Outcome::Kind::kStopped, ""};
  }

  void inject_all(const std::vector<ListedFault>& all) {
    const bool whole = std::getenv("HEADRACE_ALL_FAULTS") != nullptr;
    const char* const only = std::getenv("HEADRACE_FAULT_KIND");
    std::map<std::string, Counted> counted;
    Counted total;
    for (const ListedFault& listed :
         whole || only ? all : sample(all, all.front().hangs ? kHangSample : kSample)) {
      if (only != nullptr && listed.kind.find(only) == std::string::npos) continue;
      const std::string name =
          fmt::format("{} at call {}, amount {}", listed.kind, listed.fault.number, listed.fault.amount);
      std::snprintf(under_way.data(), under_way.size(), "%s\n", name.c_str());
      ::alarm(kHangSeconds);
      const Outcome outcome = inject(listed);
      if (outcome.kind == Outcome::Kind::kWrong) ADD_FAILURE() << name << ": " << outcome.problem;
      counted[listed.kind].outcomes[size_t(outcome.kind)]++;
      total.outcomes[size_t(outcome.kind)]++;
    }
    if (counted.empty()) GTEST_SKIP() << "none of these faults is of the kind '" << only << "'";
    print(counted, total, all.size());
    const auto met = total.outcomes[0] + total.outcomes[1] + total.outcomes[2];
    EXPECT_GT(met, 20 * total.outcomes[size_t(Outcome::Kind::kNotMet)]) << "most faults must be met";
  }

  static void print(const std::map<std::string, Counted>& counted, const Counted& total, size_t all) {
    std::printf("%-34s%9s%9s%9s%9s%9s\n", "fault", "correct", "stopped", "refused", "not met", "wrong");
    const auto row = [](const std::string& name, const Counted& counts) {
      std::printf("%-34s", name.c_str());
      for (const int count : counts.outcomes) std::printf("%9d", count);
      std::printf("\n");
    };
    for (const auto& [kind, counts] : counted) row(kind, counts);
    row(fmt::format("of {} in all", all), total);
  }

  static bool is_uring(SystemCall call) {
    return call == SystemCall::kUringRead || call == SystemCall::kUringWrite ||
           call == SystemCall::kUringSync;
  }

  // Those that hang, or the others. With io_uring only what the ring does: the rest is the same for both.
  std::vector<ListedFault> chosen(bool hangs) const {
    std::vector<WatchedCall> calls;
    for (const WatchedCall& call : calls_)
      if (GetParam() != IoBackend::kUring || is_uring(call.call)) calls.push_back(call);
    std::vector<ListedFault> all;
    for (const ListedFault& listed : faults_of(calls))
      if (listed.hangs == hangs) all.push_back(listed);
    return all;
  }

  TemporaryDirectory directory_;
  std::vector<train::BatchData> batches_ = tiny_batches();
  TrainingOptions options_ = tiny_training_options();
  TrainingResult reference_;
  std::vector<std::string> reference_lines_;
  std::vector<train::StepReport> reference_committed_, committed_;
  std::vector<WatchedCall> calls_;
};

TEST_P(TrainingFaults, AreNeverSilent) { inject_all(chosen(false)); }

TEST_P(TrainingFaults, OfRequestsWithoutAnAnswerEndTheTraining) { inject_all(chosen(true)); }

INSTANTIATE_TEST_SUITE_P(Backends, TrainingFaults, ::testing::Values(IoBackend::kUring, IoBackend::kThreads),
                         [](const ::testing::TestParamInfo<IoBackend>& instance) {
                           return std::string(instance.param == IoBackend::kUring ? "Uring" : "Threads");
                         });

}  // namespace
}  // namespace headrace

// Times training steps of GPT-2 for training_benchmark.py, which says over standard input what to run next,
// so that everything alternates within one run.
//
//   step_benchmark DIR TEXT CLIP TENTH_BYTES
//
// answers each line "memory", "tenth" or "disk" (the tenth's schedule without any mathematics) with a line of
// JSON: seconds of one step and what it moved.
#include <fmt/format.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>
#include <sys/resource.h>

#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "engine/train/initial_content.h"
#include "engine/train/session.h"
#include "engine/train/text_data.h"
#include "models/gpt2.h"
#include "models/registry.h"

namespace headrace::train {
namespace {

constexpr uint64_t kSequences = 4, kSequenceTokens = 256, kEverything = uint64_t{8} << 30;

class Variant {
 public:
  Variant(const RunOptions& run, const std::string& dir, uint64_t memory_bytes, bool mathematics)
      : model_(models::make_gpt2(models::gpt2_config(models::load_model(run.model).json))),
        input_{.run = run, .session = {}, .model = *model_, .model_json = "{}"},
        data_({.path = run.data, .seq = run.seq, .batch = run.batch, .seed = run.seed, .vocabulary = 256}) {
    input_.session.run_dir = dir;
    input_.session.memory_bytes = memory_bytes;
    input_.session.steps = ~uint64_t{0};
    const storage::Layout layout = make_layout(*model_, run);
    model_->bind(layout);
    WorkItem sample = item(1);
    plan_ = preflight({.model = *model_,
                       .layout = layout,
                       .planes = make_optimizer(run)->block_planes(),
                       .batch = sample.data.view(),
                       .training = true,
                       .late_updates = run.clip > 0,
                       .micro_batch = 0,
                       .memory_bytes = memory_bytes});
    create(layout);
    io_ = storage::make_block_io({});
    session_ = std::make_unique<Session>(Session::Parts{.input = input_,
                                                        .io = *io_,
                                                        .store = storage::Store::open(dir, {}, *io_),
                                                        .preflight = plan_,
                                                        .mathematics = mathematics});
  }

  // Runs steps until the next has run with the cache as the one before left it.
  StepReport step() {
    StepReport last;
    const uint64_t first = session_->store().step() + 1;
    session_->run(
        item(first), [&](const WorkItem& before) { return std::optional(item(before.step + 1)); },
        [&](const WorkItem& done, const StepReport& report) {
          if (done.kind == WorkItem::Kind::kTrain) last = report;
          return done.step < first + 1;
        });
    return last;
  }

  std::string plan() const { return plan_.policy.description(); }

 private:
  WorkItem item(uint64_t step) const {
    WorkItem work{.kind = WorkItem::Kind::kTrain, .step = step, .data = {}};
    data_.fetch(step - 1, work.data);
    return work;
  }

  void create(const storage::Layout& layout) {
    const auto io = storage::make_block_io({});
    storage::Store::create({.run_dir = input_.session.run_dir,
                            .shard_dirs = {},
                            .layout = layout,
                            .model_json = "{}",
                            .cursor_json = "{}"},
                           *io, initial_content(*model_, input_.run.seed), 2, [](uint64_t, uint64_t) {});
  }

  std::unique_ptr<Model> model_;
  TrainInput input_;
  TextData data_;
  Preflight plan_;
  std::unique_ptr<storage::BlockIo> io_;
  std::unique_ptr<Session> session_;
};

void serve(const RunOptions& run, const std::string& dir, uint64_t tenth_bytes) {
  Variant memory(run, dir + "/memory", kEverything, true);
  Variant tenth(run, dir + "/tenth", tenth_bytes, true);
  Variant disk(run, dir + "/disk", tenth_bytes, false);
  fmt::print("{{\"memory\":\"{}\",\"tenth\":\"{}\"}}\n", memory.plan(), tenth.plan());
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line);) {
    Variant& variant = line == "memory" ? memory : line == "tenth" ? tenth : disk;
    const StepReport report = variant.step();
    fmt::print(
        "{{\"seconds\":{},\"compute_seconds\":{},\"read_wait_seconds\":{},\"write_wait_seconds\":{},\"read_"
        "bytes\":{},"
        "\"written_bytes\":{},\"tokens\":{}}}\n",
        report.seconds, report.compute_seconds, report.read_wait_seconds, report.write_wait_seconds,
        report.read_bytes, report.written_bytes, report.tokens);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace headrace::train

int main(int argc, char** argv) try {
  if (argc != 5) {
    std::fprintf(stderr, "usage: step_benchmark DIR TEXT CLIP TENTH_BYTES\n");
    return 2;
  }
  headrace::train::RunOptions run;
  run.model = "gpt2";
  run.data = argv[2];
  run.batch = headrace::train::kSequences;
  run.seq = headrace::train::kSequenceTokens;
  run.clip = std::atof(argv[3]);
  run.schedule_steps = 1000;
  const oneapi::tbb::global_control limit(oneapi::tbb::global_control::max_allowed_parallelism, 2);
  oneapi::tbb::task_arena arena(2, 1);
  arena.execute([&] { headrace::train::serve(run, argv[1], std::strtoull(argv[4], nullptr, 10)); });
  return 0;
} catch (const headrace::Error& error) {
  std::fprintf(stderr, "step_benchmark: %s\n", error.what());
  return 1;
}

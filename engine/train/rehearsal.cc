#include "engine/train/rehearsal.h"

#include <algorithm>
#include <optional>

#include "engine/train/compute_rate.h"
#include "engine/train/session.h"
#include "engine/train/session_io.h"
#include "engine/train/training_plan.h"
#include "storage/bench/job.h"
#include "storage/error.h"

namespace headrace::train {
namespace {

// One fills the cache, and both together write both slots of every block: first writes cost a file system
// more.
constexpr uint64_t kWarmUpSteps = 2;

using Working = std::function<void(const std::string& phase, double fraction)>;

void check_stop(const std::atomic<int>& stop) {
  if (stop != 0) throw Error(ErrorKind::kFailed, "stopped before all was measured");
}

// Content that neither compresses nor is zero in all planes, so that the drive has to read it.
void create(const TrainInput& input, const storage::Layout& layout, storage::BlockIo& io,
            const std::atomic<int>& stop, const Working& working) {
  const storage::StoreConfig config{.run_dir = input.session.run_dir,
                                    .shard_dirs = input.session.shard_dirs,
                                    .layout = layout,
                                    .model_json = input.model_json,
                                    .cursor_json = "{}"};
  const auto fill = [&](const storage::BlockLayout& block, std::span<std::byte> payload) -> uint32_t {
    check_stop(stop);
    bench::fill_random(payload, block.id);
    return uint32_t(block.planes.size());
  };
  storage::Store::create(config, io, fill, 1, [&](uint64_t done, uint64_t total) {
    working("writing the blocks", total == 0 ? 0 : double(done) / double(total));
  });
}

void run_steps(const TrainInput& input, const BatchData& data, uint64_t steps, SessionIo& io,
               const std::atomic<int>& stop, const Working& working, Rehearsal& rehearsal) {
  Session session({.input = input,
                   .io = *io.io,
                   .store = storage::Store::open(input.session.run_dir, input.session.shard_dirs, *io.io),
                   .preflight = rehearsal.preflight,
                   .mathematics = false});
  rehearsal.io = io.description();
  const uint64_t last = kWarmUpSteps + steps;
  const auto item = [&](uint64_t step) {
    WorkItem work{.kind = WorkItem::Kind::kTrain, .step = step, .data = data};
    work.commits = step % input.run.commit_every == 0;
    return work;
  };
  session.run(
      // One more than is measured: what is announced as last is planned differently.
      item(1),
      [&](const WorkItem& before) {
        return before.step <= last ? std::optional(item(before.step + 1)) : std::nullopt;
      },
      [&](const WorkItem& done, const StepReport& report) {
        if (done.kind != WorkItem::Kind::kTrain) return true;
        if (done.step > kWarmUpSteps && done.step <= last) rehearsal.steps.push_back(report);
        working("steps without mathematics", double(done.step) / double(last));
        return stop == 0 && done.step < last;
      });
  check_stop(stop);
}

void interpret(const TrainInput& input, const storage::Layout& layout, Rehearsal& rehearsal) {
  rehearsal.flops_per_second = measure_flops_per_second(
      layout, input.run.weights, rehearsal.preflight.policy.micro_batch * input.run.seq);
  rehearsal.compute_seconds = rehearsal.preflight.flops / rehearsal.flops_per_second;
  double bytes = 0, seconds = 0;
  for (const StepReport& step : rehearsal.steps) {
    bytes += double(step.read_bytes + step.written_bytes);
    seconds += step.seconds;
  }
  rehearsal.hiding_tokens = least_hiding_tokens(
      input, layout, rehearsal.preflight, rehearsal.flops_per_second, [&](const stream::PlannedBytes& step) {
        return double(step.total()) / std::max(bytes, 1.0) * seconds;
      });
}

}  // namespace

Rehearsal rehearse(const TrainInput& input, uint64_t steps, const std::atomic<int>& stop,
                   const Working& working) {
  Rehearsal rehearsal;
  BatchData data;
  input.model.draw(input.run.seed, input.run.batch, input.run.seq, data);
  const storage::Layout layout = make_layout(input.model, input.run);
  rehearsal.parameters = parameter_count(input.model, layout);
  rehearsal.state_bytes = layout.payload_bytes();
  rehearsal.tokens = data.rows();
  rehearsal.rows = input.model.row_name();
  with_session_threads(input.session, [&] {
    rehearsal.preflight = preflight(preflight_input(input, layout, data, true));
    {
      const SessionIo io = open_session_io(input.session);
      create(input, layout, *io.io, stop, working);
    }
    SessionIo io = open_session_io(input.session);
    run_steps(input, data, steps, io, stop, working, rehearsal);
    input.model.bind(layout);  // the session's layout has gone with it
    interpret(input, layout, rehearsal);
  });
  return rehearsal;
}

}  // namespace headrace::train

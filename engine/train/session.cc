#include "engine/train/session.h"

#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include <fmt/format.h>
#include <oneapi/tbb/task_arena.h>

#include "engine/math/magnitude.h"
#include "engine/train/lr_schedule.h"
#include "engine/train/run_options.h"
#include "engine/train/state_tensor.h"
#include "storage/error.h"
#include "storage/store_shards.h"

namespace headrace::train {

using storage::BlockId;
using stream::Plan;
using stream::Program;

namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

uint64_t peak_rss_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return uint64_t(usage.ru_maxrss) * 1024;
}

}  // namespace

Session::Session(Parts parts)
    : parts_(std::move(parts)),
      layout_(parts_.store->layout()),
      optimizer_(make_optimizer(parts_.input.run)),
      late_updates_(late_updates(parts_.input.run, parts_.input.session)),
      pruner_(parts_.input.model, layout_, parts_.input.run),
      space_(uint32_t(layout_.blocks().size())),
      sizes_(layout_, space_, optimizer_->block_planes()),
      spill_space_(uint32_t(parts_.store->shard_paths().size())),
      arena_(parts_.preflight.cache.arena_bytes),
      planner_(space_, sizes_, parts_.preflight.cache, &spill_space_),
      recorder_(
          layout_, space_,
          {.planes = optimizer_->block_planes(), .late_updates = late_updates_, .masked = pruner_.tensors()}),
      runner_(layout_, space_,
              {.planes = optimizer_->block_planes(),
               .late_updates = late_updates_,
               .masked = pruner_.tensors(),
               .mathematics = parts_.mathematics}),
      norm_(layout_),
      trained_blocks_(size_t(std::count_if(layout_.blocks().begin(), layout_.blocks().end(),
                                           [](const auto& block) { return block.slots == 2; }))) {
  parts_.input.model.bind(layout_);
  parts_.io.register_memory(arena_.span());
  std::vector<storage::FileIndex> spill_indices;
  const std::vector<std::string> shard_paths = parts_.store->shard_paths();
  for (uint32_t shard = 0; shard < shard_paths.size(); shard++) {
    spill_files_.emplace_back(shard_paths[shard], storage::drive_number(shard_paths, shard), parts_.io);
    spill_indices.push_back(spill_files_.back().file());
  }
  streamer_ = std::make_unique<stream::Streamer>(stream::Streamer::Parts{.store = *parts_.store,
                                                                         .io = parts_.io,
                                                                         .space = space_,
                                                                         .planes = optimizer_->block_planes(),
                                                                         .arena = arena_.span(),
                                                                         .spill_files = spill_indices});
  if (parts_.input.session.checkpoint_every > 0)
    checkpointer_ = std::make_unique<Checkpointer>(
        Checkpointer::Parts{.store = *parts_.store,
                            .io = parts_.io,
                            .session = parts_.input.session,
                            .planes = optimizer_->block_planes(),
                            .configuration = run_options_json(parts_.input.run),
                            .threads = uint32_t(oneapi::tbb::this_task_arena::max_concurrency())});
  committer_ = std::make_unique<Committer>(*parts_.store, *streamer_, parts_.space, [this](uint64_t step) {
    if (checkpointer_) checkpointer_->committed(step);
  });
}

Session::~Session() {
  committer_.reset();
  streamer_.reset();
}

stream::Context::Step Session::step_of(const WorkItem& item) {
  return [this, &item](stream::Context& context) {
    Batch batch = item.data.view();
    batch.seed = parts_.input.run.seed;
    if (item.kind == WorkItem::Kind::kTrain) batch.step = item.step;
    switch (item.kind) {
      case WorkItem::Kind::kTrain:
        pruner_.choose(context, item.step);
        return parts_.input.model.train(context, batch, parts_.preflight.policy);
      case WorkItem::Kind::kEvaluate:
        return parts_.input.model.evaluate(context, batch, parts_.preflight.policy);
      case WorkItem::Kind::kFinish:
        return context.finish_updates();
    }
  };
}

Program Session::record(const WorkItem& item) {
  parity_ = 1 - parity_;
  return recorder_.record(step_of(item), parity_);
}

void Session::run(WorkItem first, const NextItem& next_item, const ItemDone& done) {
  WorkItem item = std::move(first);
  const bool trains = item.kind == WorkItem::Kind::kTrain;
  if (trains) storage::with_space(parts_.space, [&] { store().reserve_commit(); });
  if (trains) note({.step = store().step(), .next_in_flight = true});
  Program program = record(item);
  for (;;) {
    const auto start = std::chrono::steady_clock::now();
    const bool last = item.kind == WorkItem::Kind::kFinish;
    std::optional<WorkItem> next = last ? std::nullopt : next_item(item);
    if (!last && !next) next = WorkItem{};
    if (next && next->kind == WorkItem::Kind::kFinish) ending_ = true;
    Program next_program;
    if (next) next_program = record(*next);
    Plan plan = planner_.plan(program, next ? &next_program : nullptr, store_writes(item));
    const StepReport report = run_item(item, program, std::move(plan), start);
    const bool go_on = done(item, report);
    if (last) break;
    if (!go_on && next->kind != WorkItem::Kind::kFinish) {
      planner_.discard_future();
      recorder_.set_due_updates(runner_.due_updates());
      next = WorkItem{};
      next_program = record(*next);
      ending_ = true;
    }
    item = std::move(*next);
    program = std::move(next_program);
  }
  commit_rest();
  committer_->wait();
  streamer_->wait_for_all();
  if (checkpointer_) checkpointer_->wait();
  if (trains) note({.step = store().step()});
}

uint64_t Session::checkpoint_due() const {
  return checkpointer_ ? checkpointer_->unpublished().value_or(0) : 0;
}

// What a later session will find should this one die. Costs a transaction where it says something new.
void Session::note(const Cursor& cursor) {
  const std::string json = cursor_json(cursor);
  if (store().cursor_json() == json) return;
  storage::with_space(parts_.space, [&] { store().set_cursor(json); });
}

// Late updates that run in an item are those of the step before it.
stream::StoreWrites Session::store_writes(const WorkItem& item) const {
  if (item.kind == WorkItem::Kind::kFinish) return stream::StoreWrites::kEverything;
  const bool commits = late_updates_ || item.kind != WorkItem::Kind::kTrain ? step_commits_ : item.commits;
  return commits ? stream::StoreWrites::kAtOnce : stream::StoreWrites::kDeferred;
}

StepReport Session::run_item(const WorkItem& item, const Program& program, Plan plan,
                             std::chrono::steady_clock::time_point start) {
  StepReport report;
  report.step = item.step;
  report.tokens = item.data.rows();
  report.read_bytes = plan.bytes.read();
  report.written_bytes = plan.bytes.written();
  const stream::OpIndex first_op = plan.first_op;
  for (uint32_t file = 0; file < spill_files_.size(); file++)
    storage::with_space(parts_.space, [&] { spill_files_[file].reserve(spill_space_.file_bytes(file)); });
  if (parts_.space != nullptr) parts_.space->started();
  streamer_->begin(program, std::move(plan));
  streamer_->clock().take();
  begin_step(item);
  runner_.run(step_of(item), program, first_op, *streamer_, *this);
  report.seconds = seconds_since(start);
  const stream::StallTimes times = streamer_->clock().take();
  report.compute_seconds = times.compute_seconds;
  report.read_wait_seconds = times.read_wait_seconds;
  report.write_wait_seconds = times.write_wait_seconds;
  report.loss = parts_.input.model.loss();
  report.rss_bytes = peak_rss_bytes();
  if (item.kind == WorkItem::Kind::kTrain) end_step(item, report);
  return report;
}

// Updates that run at once use this step's numbers; late ones still use those of the step before.
void Session::begin_step(const WorkItem& item) {
  if (item.kind != WorkItem::Kind::kTrain || late_updates_) return;
  update_step_ = {.step = item.step,
                  .lr = learning_rate(lr_schedule_options(parts_.input.run), item.step),
                  .gradient_scale = 1};
}

void Session::end_step(const WorkItem& item, StepReport& report) {
  report.lr = learning_rate(lr_schedule_options(parts_.input.run), item.step);
  report.grad_norm = norm_.norm();
  if (pruner_.prunes_ever()) report.sparsity = sparsity_at(parts_.input.run, item.step);
  report.skipped = !std::isfinite(report.loss) || !std::isfinite(report.grad_norm);
  if (report.skipped && parts_.input.session.on_nan == OnNan::kStop) stop_at(report);
  if (late_updates_) {
    // torch.nn.utils.clip_grad_norm_
    const double clip = parts_.input.run.clip;
    const double scale = clip > 0 ? clip / (report.grad_norm + 1e-6) : 1;
    update_step_ = {.step = item.step, .lr = report.lr, .gradient_scale = float(std::min(scale, 1.0))};
    skips_updates_ = report.skipped;
  }
  {
    std::lock_guard lock(commit_mutex_);
    uncommitted_.step = item.step;
    uncommitted_.metrics_lines.push_back(metrics_line(report));
    uncommitted_reports_.push_back(report);
    step_ended_ = true;
    step_commits_ = item.commits;
  }
  commit_when_updated();
}

// Where updates are late the steps before have theirs, and this one's never happen. Those made at once have
// already replaced some of what the steps since the last commit wrote, so these go too.
void Session::stop_at(const StepReport& report) {
  if (late_updates_ && !uncommitted_reports_.empty()) {
    streamer_->begin(no_operations_,
                     planner_.plan(no_operations_, nullptr, stream::StoreWrites::kEverything));
    commit_rest();
  }
  committer_->wait();
  note({.step = store().step()});
  throw Error(
      ErrorKind::kFailed,
      fmt::format("step {} has the loss {} and the gradient norm {}: it does not count, step {} is the last",
                  report.step, report.loss, report.grad_norm, store().step()),
      "give --on-nan skip to go on without this step's update, or train a new run with a smaller --lr, a "
      "longer --warmup or a smaller --clip");
}

void Session::commit_when_updated() {
  {
    std::lock_guard lock(commit_mutex_);
    if (!step_ended_ || updated_blocks_ < trained_blocks_) return;
    step_ended_ = false;
    updated_blocks_ = 0;
    if (!step_commits_) return;
  }
  uncommitted_.cursor_json =
      cursor_json({.step = uncommitted_.step,
                   .next_in_flight = !ending_ && uncommitted_.step < parts_.input.session.steps,
                   .checkpoint_due = checkpoint_due()});
  // Nobody else is here before the next step's updates, which wait for this.
  committer_->commit(std::exchange(uncommitted_, {}), std::exchange(uncommitted_reports_, {}));
}

// Commits the steps that waited for others to be committed with.
void Session::commit_rest() {
  if (uncommitted_reports_.empty()) return;
  committer_->wait();
  uncommitted_.cursor_json = cursor_json({.step = uncommitted_.step, .checkpoint_due = checkpoint_due()});
  committer_->commit(std::exchange(uncommitted_, {}), std::exchange(uncommitted_reports_, {}));
}

void Session::gradient_ready(BlockId block, float* gradient, const math::WeightView& weights) {
  if (weights.high != nullptr) math::mask_gradient(weights, gradient);
  if (!parts_.input.model.is_state(layout_.block(block).tensor)) norm_.add(block, gradient);
}

void Session::update(BlockId block, std::byte* weights, std::byte* moments, const float* gradient) {
  const storage::BlockLayout& layout = layout_.block(block);
  pruner_.apply(update_step_.step, optimizer_->block_planes(), layout, weights, moments);
  if (!skips_updates_) {
    if (parts_.input.model.is_state(layout.tensor))
      assign_state(optimizer_->block_planes(), layout, weights, moments, gradient);
    else
      optimizer_->update(update_step_, parts_.input.model.decays(layout.tensor), layout, weights, moments,
                         gradient);
  }
  if (checkpointer_ && checkpointer_->is_due(update_step_.step))
    checkpointer_->save(update_step_.step, block, weights, moments);
}

void Session::updated(BlockId) {
  {
    std::lock_guard lock(commit_mutex_);
    updated_blocks_++;
  }
  commit_when_updated();
}

}  // namespace headrace::train

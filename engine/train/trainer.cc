#include "engine/train/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include <fmt/format.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include "engine/math/gemm.h"
#include "engine/train/initial_content.h"
#include "engine/train/run_options.h"
#include "engine/train/session.h"
#include "engine/train/session_io.h"
#include "engine/train/space_wait.h"
#include "storage/error.h"
#include "storage/patient_io.h"
#include "storage/text.h"

namespace headrace::train {

namespace tbb = oneapi::tbb;

namespace {

constexpr uint64_t kBatchesAtATime = 2;  // the one that is worked on, and the next

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

uint32_t thread_count(const SessionOptions& session) {
  return session.threads != 0 ? session.threads : uint32_t(tbb::info::default_concurrency());
}

// Runs `body` with as many workers as asked for.
template <typename Body>
auto with_threads(uint32_t threads, const Body& body) {
  const tbb::global_control limit(tbb::global_control::max_allowed_parallelism, threads);
  tbb::task_arena arena(int(threads), 1);
  return arena.execute(body);
}

// Opens the run for work, or refuses. A full disk is the waiter's affair, if there is one.
class Opened {
 public:
  Opened(const TrainInput& input, const storage::Layout& layout, const Preflight& plan,
         TrainListener& listener, storage::SpaceWaiter* waiter = nullptr)
      : io_(open_session_io(input.session)) {
    for (const std::string& warning : io_.tuned.warnings) listener.narrate(warning);
    if (waiter != nullptr) patient_io_.emplace(*io_.io, *waiter);
    storage::BlockIo& io = patient_io_ ? static_cast<storage::BlockIo&>(*patient_io_) : *io_.io;
    std::unique_ptr<storage::Store> store;
    storage::with_space(
        waiter, [&] { store = storage::Store::open(input.session.run_dir, input.session.shard_dirs, io); });
    if (store->model_json() != input.model_json)
      throw Error(
          ErrorKind::kUsage,
          "the options in " + run_config_path(input.session.run_dir) +
              " are not those that the run was made with",
          "undo what was changed there; without the file, train takes them from the run, and wants --data");
    // What updates and plans count on, and what a catalog may say, whoever wrote it.
    if (!std::ranges::equal(store->layout().tensors(), layout.tensors()))
      throw Error(ErrorKind::kCorrupt,
                  "the tensors in the catalog of " + input.session.run_dir + " are not those of its model",
                  "restore the run from a checkpoint or a copy");
    session_.emplace(Session::Parts{
        .input = input, .io = io, .store = std::move(store), .preflight = plan, .space = waiter});
    listener.narrate("disk access: " + io_.description());
  }
  Session& session() { return *session_; }
  const storage::BlockIo& io() const { return *io_.io; }

 private:
  SessionIo io_;
  std::optional<storage::PatientIo> patient_io_;
  std::optional<Session> session_;
};

struct EndOfWaiting {
  SpaceWait& space;
  ~EndOfWaiting() { space.end(); }
};

Preflight plan_work(const TrainInput& input, const storage::Layout& layout, const BatchData& batch,
                    bool training, TrainListener& listener) {
  const Preflight plan = preflight(preflight_input(input, layout, batch, training));
  listener.narrate(fmt::format("plan: {}; {} of memory for the cache; a step reads {} and writes {}",
                               plan.policy.description(), format_size(plan.cache.arena_bytes),
                               format_size(plan.step.read()), format_size(plan.step.written())));
  return plan;
}

void create_run(const TrainInput& input, const storage::Layout& layout, TrainListener& listener) {
  const storage::StoreConfig config{.run_dir = input.session.run_dir,
                                    .shard_dirs = input.session.shard_dirs,
                                    .layout = layout,
                                    .model_json = input.model_json,
                                    .cursor_json = cursor_json({.step = 0})};
  const storage::BlockFiller fill = initial_content(input.model, input.run.seed, input.data);
  const std::unique_ptr<storage::BlockIo> io = open_session_io(input.session).io;
  storage::Store::create(config, *io, fill, thread_count(input.session), [&](uint64_t done, uint64_t total) {
    listener.working("creating the run", total == 0 ? 1 : double(done) / double(total));
  });
  write_run_config(input.session.run_dir, input.run);
}

// The sums of an evaluation, batch by batch.
class Evaluation {
 public:
  Evaluation(Task task, uint64_t step) {
    summary_.task = task;
    summary_.step = step;
  }
  void add(const BatchData& data, const StepReport& report, const Metrics& metrics) {
    const uint64_t counted = metrics.rows > 0 ? metrics.rows : report.tokens;
    loss_sum_ += report.loss * double(counted);
    counted_ += counted;
    summary_.tokens += counted;
    summary_.windows += data.view().sequences();
    summary_.seconds += report.seconds;
    summary_.metrics.add(metrics);
  }
  EvalSummary summary() const {
    EvalSummary summary = summary_;
    summary.loss = loss_sum_ / double(counted_);
    summary.perplexity = std::exp(summary.loss);
    return summary;
  }

 private:
  EvalSummary summary_;
  double loss_sum_ = 0;
  uint64_t counted_ = 0;
};

// Training as a sequence of work items: steps, evaluations between them, and the end.
class TrainLoop {
 public:
  TrainLoop(const TrainInput& input, TrainListener& listener, const std::atomic<int>& stop, Session& session,
            TrainSummary& summary)
      : input_(input),
        listener_(listener),
        stop_(stop),
        session_(session),
        summary_(summary),
        eval_data_(input.session.eval_every > 0 ? input.eval_data : nullptr) {}

  void run() {
    const uint64_t first = session_.store().step() + 1;
    try {
      if (first <= input_.session.steps)
        session_.run(
            train_item(first), [this](const WorkItem& item) { return next(item); },
            [this](const WorkItem& item, const StepReport& report) { return done(item, report); });
      session_.wait_for_commit();
    } catch (const StoppedWhileWaiting& stopped) {
      listener_.narrate(stopped.what());
    }
    report_committed();
    if (const Checkpointer* checkpointer = session_.checkpointer())
      summary_.checkpoints = checkpointer->totals();
  }

 private:
  WorkItem train_item(uint64_t step) const {
    WorkItem item{.kind = WorkItem::Kind::kTrain, .step = step, .data = {}};
    const bool saved = session_.checkpointer() != nullptr && session_.checkpointer()->is_due(step);
    item.commits = step % input_.run.commit_every == 0 || step == input_.session.steps || saved;
    input_.data->fetch(step - 1, item.data);
    return item;
  }

  std::optional<WorkItem> eval_item(uint64_t step, uint64_t index) const {
    if (eval_data_ == nullptr || index >= eval_data_->evaluation_batches()) return std::nullopt;
    WorkItem item{.kind = WorkItem::Kind::kEvaluate, .step = step, .data = {}};
    eval_data_->fetch_evaluation(index, item.data);
    return item;
  }

  std::optional<WorkItem> next(const WorkItem& item) {
    planned_evaluation_ = item.kind == WorkItem::Kind::kEvaluate ? planned_evaluation_ + 1 : 0;
    if (eval_data_ != nullptr && item.step % input_.session.eval_every == 0)
      if (std::optional<WorkItem> evaluation = eval_item(item.step, planned_evaluation_)) return evaluation;
    if (item.step >= input_.session.steps) return std::nullopt;
    return train_item(item.step + 1);
  }

  bool done(const WorkItem& item, const StepReport& report) {
    if (item.kind == WorkItem::Kind::kEvaluate) {
      if (!evaluation_) evaluation_.emplace(input_.model.task(), item.step);
      evaluation_->add(item.data, report, input_.model.metrics());
      if (++evaluated_ == eval_data_->evaluation_batches()) {
        listener_.evaluated(evaluation_->summary());
        evaluation_.reset();
        evaluated_ = 0;
      }
    } else if (item.kind == WorkItem::Kind::kFinish) {
      add_cost(report);
    }
    report_committed();
    return stop_ == 0;
  }

  // Of a committed step, or of the last step's late updates, which are an item of their own.
  void add_cost(const StepReport& report) {
    summary_.seconds += report.seconds;
    summary_.read_wait_seconds += report.read_wait_seconds;
    summary_.write_wait_seconds += report.write_wait_seconds;
    summary_.read_bytes += report.read_bytes;
    summary_.written_bytes += report.written_bytes;
    summary_.peak_rss_bytes = std::max(summary_.peak_rss_bytes, report.rss_bytes);
  }

  void report_committed() {
    if (Checkpointer* checkpointer = session_.checkpointer())
      for (const std::string& note : checkpointer->take_notes()) listener_.narrate(note);
    for (const StepReport& report : session_.take_committed()) {
      if (summary_.first_step == 0) {
        summary_.first_step = report.step;
        summary_.first_loss = report.loss;
      }
      summary_.last_step = report.step;
      summary_.last_loss = report.loss;
      summary_.tokens += report.tokens;
      add_cost(report);
      if (report.skipped) {
        summary_.skipped_steps++;
        listener_.narrate(
            fmt::format("step {} has the loss {} and the gradient norm {}: its update is skipped",
                        report.step, report.loss, report.grad_norm));
      }
      listener_.step_done(report);
    }
  }

  const TrainInput& input_;
  TrainListener& listener_;
  const std::atomic<int>& stop_;
  Session& session_;
  TrainSummary& summary_;
  const DataSet* eval_data_;
  uint64_t planned_evaluation_ = 0, evaluated_ = 0;  // batches of the evaluation under way
  std::optional<Evaluation> evaluation_;
};

}  // namespace

void with_session_threads(const SessionOptions& session, const std::function<void()>& body) {
  with_threads(thread_count(session), body);
}

PreflightInput preflight_input(const TrainInput& input, const storage::Layout& layout, const BatchData& data,
                               bool training) {
  input.model.bind(layout);
  const Batch batch = data.view();
  // A table's units hold several samples.
  const uint64_t unit_samples = batch.features.empty() && batch.graph == nullptr ? 1 : batch.seq;
  const uint64_t micro_batch = (input.run.micro_batch + unit_samples - 1) / unit_samples;
  uint64_t data_bytes = input.data != nullptr ? input.data->memory_bytes() : data.kept_bytes();
  if (input.eval_data != nullptr) data_bytes += input.eval_data->memory_bytes();
  data_bytes += kBatchesAtATime * data.memory_bytes();
  return {
      .model = input.model,
      .layout = layout,
      .planes = make_optimizer(input.run)->block_planes(),
      .batch = batch,
      .training = training,
      .late_updates = late_updates(input.run, input.session),
      .micro_batch = training ? std::min(micro_batch, batch.sequences()) : 0,
      .commit_every = input.run.commit_every,
      .memory_bytes = input.session.memory_bytes,
      .reserved_bytes = training && input.session.checkpoint_every > 0
                            ? Checkpointer::memory_bytes(layout, input.session, thread_count(input.session))
                            : 0,
      .data_bytes = data_bytes,
      .pruner = training ? Pruner(input.model, layout, input.run) : Pruner()};
}

storage::Layout make_layout(const Model& model, const RunOptions& run) {
  const std::vector<storage::Plane> planes = make_optimizer(run)->planes();
  std::vector<storage::TensorSpec> tensors = model.tensors();
  for (storage::TensorSpec& tensor : tensors) {
    const bool frozen = tensor.slots == 1;
    tensor.planes = frozen ? std::vector{frozen_plane()} : planes;
    uint64_t panel_bytes = 0;
    for (const storage::Plane& plane : tensor.planes)
      panel_bytes += plane.values(tensor.columns * math::kPanel) * plane.element_bytes;
    const uint64_t panels = run.block_bytes / panel_bytes;
    tensor.block_rows =
        tensor.columns == 1 && !frozen ? tensor.rows : std::max<uint64_t>(panels, 1) * uint64_t(math::kPanel);
  }
  return storage::Layout(std::move(tensors));
}

TrainSummary train(const TrainInput& input, TrainListener& watcher, const std::atomic<int>& stop) {
  return with_threads(thread_count(input.session), [&] {
    SerialListener listener(watcher);
    const storage::Layout layout = make_layout(input.model, input.run);
    const Preflight plan = [&] {
      BatchData sample;
      input.data->fetch(0, sample);
      return plan_work(input, layout, sample, true, listener);
    }();
    listener.narrate("data: " + input.data->description());
    if (!storage::Store::exists(input.session.run_dir)) create_run(input, layout, listener);

    SpaceWait space({.waits = input.session.wait_for_space, .run_dir = input.session.run_dir}, listener,
                    stop);
    Opened opened(input, layout, plan, listener, &space);
    const EndOfWaiting end{space};  // before `opened` goes, which waits for its threads
    space.watch(opened.session().store());
    TrainSummary summary;
    summary.run_dir = input.session.run_dir;
    summary.model = input.run.model;
    summary.task = input.model.task();
    summary.rows = input.model.row_name();
    summary.io = opened.io().description();
    summary.parameters = parameter_count(input.model, layout);
    summary.state_bytes = layout.payload_bytes();
    summary.memory_bytes = input.session.memory_bytes;
    summary.total_steps = input.session.steps;
    const uint64_t committed = opened.session().store().step();
    summary.last_step = committed;
    const Cursor cursor = parse_cursor(opened.session().store().cursor_json());
    for (const std::string& note : opened.session().store().notes()) listener.narrate(note);
    if (committed > 0 || cursor.next_in_flight)
      listener.narrate(describe_resume(cursor, input.run.commit_every));
    if (Checkpointer* checkpointer = opened.session().checkpointer();
        checkpointer != nullptr && cursor.checkpoint_due != 0) {
      listener.narrate(
          fmt::format("the checkpoint of step {} may not be whole: taking it again", cursor.checkpoint_due));
      checkpointer->retake(cursor.checkpoint_due);
    }
    TrainLoop(input, listener, stop, opened.session(), summary).run();
    summary.stopped = stop != 0 && std::max(summary.last_step, committed) < input.session.steps;
    return summary;
  });
}

EvalSummary evaluate(const TrainInput& input, TrainListener& listener, const std::atomic<int>& stop) {
  return with_threads(thread_count(input.session), [&] {
    const DataSet& data = *input.eval_data;
    const auto item_of = [&](uint64_t index) {
      WorkItem item{.kind = WorkItem::Kind::kEvaluate, .step = index, .data = {}};
      data.fetch_evaluation(index, item.data);
      return item;
    };
    const storage::Layout layout = make_layout(input.model, input.run);
    const Preflight plan = plan_work(input, layout, item_of(0).data, false, listener);
    Opened opened(input, layout, plan, listener);
    Evaluation evaluation(input.model.task(), opened.session().store().step());
    const auto start = std::chrono::steady_clock::now();
    const auto next = [&](const WorkItem& item) -> std::optional<WorkItem> {
      return item.step + 1 < data.evaluation_batches() ? std::optional(item_of(item.step + 1)) : std::nullopt;
    };
    opened.session().run(item_of(0), next, [&](const WorkItem& item, const StepReport& report) {
      if (item.kind != WorkItem::Kind::kEvaluate) return true;
      evaluation.add(item.data, report, input.model.metrics());
      listener.working("evaluating", double(item.step + 1) / double(data.evaluation_batches()));
      return stop == 0;
    });
    EvalSummary summary = evaluation.summary();
    summary.rows = input.model.target_name();
    summary.seconds = seconds_since(start);
    return summary;
  });
}

}  // namespace headrace::train

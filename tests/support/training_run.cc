#include "tests/support/training_run.h"

#include <algorithm>

#include <fmt/format.h>
#include <oneapi/tbb/global_control.h>
#include <oneapi/tbb/task_arena.h>

#include "engine/math/kernels.h"
#include "engine/stream/context.h"
#include "engine/train/optimizer.h"
#include "engine/train/pruning.h"
#include "engine/train/session.h"
#include "engine/train/trainer.h"
#include "storage/aligned_memory.h"
#include "storage/checksum.h"
#include "storage/digest.h"
#include "storage/text.h"
#include "tests/support/temporary_directory.h"

namespace headrace::testing {

using storage::BlockLayout;
using storage::Layout;
using train::BatchData;

namespace {

template <class Body>
auto with_threads(uint32_t threads, const Body& body) {
  const oneapi::tbb::global_control limit(oneapi::tbb::global_control::max_allowed_parallelism, threads);
  oneapi::tbb::task_arena arena(int(threads), 1);
  return arena.execute(body);
}

// Batches of sequences need not say how long these are.
train::Batch batch_of(const TrainingOptions& options, const BatchData& tokens) {
  train::Batch batch = tokens.view();
  if (batch.seq == 0) batch.seq = options.run.seq;
  return batch;
}

train::SessionOptions session_of(const TrainingOptions& options) {
  train::SessionOptions session;
  session.on_nan = options.on_nan;
  return session;
}

train::Preflight ask_preflight(train::Model& model, const TrainingOptions& options, const Layout& layout,
                               const BatchData& tokens) {
  return train::preflight({.model = model,
                           .layout = layout,
                           .planes = train::make_optimizer(options.run)->block_planes(),
                           .batch = batch_of(options, tokens),
                           .training = !options.evaluate,
                           .late_updates = train::late_updates(options.run, session_of(options)),
                           .micro_batch = options.run.micro_batch,
                           .commit_every = options.run.commit_every,
                           .memory_bytes = options.memory_bytes,
                           .pruner = train::Pruner(model, layout, options.run)});
}

uint64_t least_arena_bytes(train::Model& model, const TrainingOptions& options, const Layout& layout,
                           const train::ExecutionPolicy& policy, std::span<const BatchData> batches) {
  const stream::BlockPlanes planes = train::make_optimizer(options.run)->block_planes();
  const stream::EntrySpace space(uint32_t(layout.blocks().size()));
  const train::BlockEntrySizes sizes(layout, space, planes);
  train::Pruner pruner(model, layout, options.run);
  stream::Context context(layout, space,
                          {.planes = planes,
                           .late_updates = train::late_updates(options.run, session_of(options)),
                           .masked = pruner.tensors()});
  uint64_t least = 0;
  const auto record = [&](const stream::Context::Step& step) {
    const stream::Program program = context.record(step, 0);
    least = std::max(least, stream::CachePlanner::least_arena_bytes(program, space, sizes));
  };
  for (uint64_t step = 1; const BatchData& tokens : batches)
    record([&, step = step++](stream::Context& c) {
      if (!options.evaluate) pruner.choose(c, step);
      if (options.evaluate)
        model.evaluate(c, batch_of(options, tokens), policy);
      else
        model.train(c, batch_of(options, tokens), policy);
    });
  record([](stream::Context& c) { c.finish_updates(); });
  return least;
}

train::Preflight plan_run(train::Model& model, const TrainingOptions& options, const Layout& layout,
                          std::span<const BatchData> batches) {
  train::Preflight plan = ask_preflight(model, options, layout, batches.front());
  if (options.policy) plan.policy = *options.policy;
  if (!options.arena_bytes) return plan;
  const uint64_t arena = *options.arena_bytes != 0
                             ? *options.arena_bytes
                             : least_arena_bytes(model, options, layout, plan.policy, batches);
  plan.cache.arena_bytes = arena;
  plan.cache.prefetch_bytes = arena / 5;
  plan.cache.write_behind_bytes = arena / 8;
  return plan;
}

std::unique_ptr<storage::BlockIo> make_io(const TrainingOptions& options) {
  storage::IoOptions io;
  io.backend = options.io;
  io.stuck_ms = options.stuck_ms;
  return storage::make_block_io(io);
}

void create(const train::Model& model, const TrainingOptions& options, const Layout& layout,
            const std::string& run_dir) {
  storage::StoreConfig config{
      .run_dir = run_dir, .shard_dirs = {}, .layout = layout, .model_json = "{}", .cursor_json = "{}"};
  for (uint32_t shard = 0; shard < options.shards && options.shards > 1; shard++)
    config.shard_dirs.push_back(fmt::format("{}-shard{}", run_dir, shard));
  const auto fill = [&](const BlockLayout& block, std::span<std::byte> payload) -> uint32_t {
    std::vector<float> values(block.elements);
    const storage::TensorSpec& tensor = layout.tensor(block.tensor);
    const uint64_t first = block.first_row * tensor.columns;
    if (options.initial == nullptr) {
      model.initialise(block.tensor, block.first_row, options.run.seed, values);
    } else {
      for (const storage::TensorPart& part : tensor.parts) {
        const std::vector<float>& source = options.initial->at(part.name);
        for (uint64_t i = 0; i < source.size(); i++)
          if (const uint64_t at = part.first_element + i; at >= first && at - first < values.size())
            values[at - first] = source[i];
      }
    }
    if (block.slots == 1) {
      std::copy(values.begin(), values.end(), reinterpret_cast<float*>(payload.data()));
      return 1;
    }
    math::split_planes(values.data(), int64_t(values.size()),
                       reinterpret_cast<uint16_t*>(payload.data() + block.planes[0].offset),
                       reinterpret_cast<uint16_t*>(payload.data() + block.planes[1].offset));
    return 2;
  };
  const std::unique_ptr<storage::BlockIo> io = make_io(options);
  storage::Store::create(config, *io, fill, options.threads, nullptr);
}

void append_block(const Layout& layout, const BlockLayout& block, const std::byte* data,
                  std::map<std::string, TrainedTensor>& tensors) {
  if (block.slots == 1) return;
  std::vector<float> weights(block.elements);
  math::join_planes(reinterpret_cast<const uint16_t*>(data + block.planes[0].offset),
                    reinterpret_cast<const uint16_t*>(data + block.planes[1].offset), int64_t(block.elements),
                    weights.data());
  const storage::TensorSpec& spec = layout.tensor(block.tensor);
  const auto moment = [&](uint32_t plane) {
    const bool there = plane < spec.planes.size() && spec.planes[plane].element_bytes == sizeof(float);
    return there ? reinterpret_cast<const float*>(data + block.planes[plane].offset) : nullptr;
  };
  const float *moment1 = moment(2), *moment2 = moment(3);
  const uint64_t first = block.first_row * spec.columns;
  for (size_t p = 0; p < spec.parts.size(); p++) {
    const uint64_t part_end =
        p + 1 < spec.parts.size() ? spec.parts[p + 1].first_element : spec.rows * spec.columns;
    TrainedTensor& tensor = tensors[spec.parts[p].name];
    for (uint64_t i = 0; i < block.elements; i++) {
      if (first + i < spec.parts[p].first_element || first + i >= part_end) continue;
      tensor.weights.push_back(weights[i]);
      if (moment1 != nullptr) tensor.moment1.push_back(moment1[i]);
      if (moment2 != nullptr) tensor.moment2.push_back(moment2[i]);
    }
  }
}

std::map<std::string, TrainedTensor> read_tensors(const storage::Store& store, storage::BlockIo& io) {
  std::map<std::string, TrainedTensor> tensors;
  for (const BlockLayout& block : store.layout().blocks()) {
    const storage::AlignedMemory memory(block.payload_bytes);
    const storage::PlaneRange all{0, uint32_t(block.planes.size())};
    storage::IoRequest request = store.read_request(block.id, all, memory.data());
    storage::transfer_and_wait(io, {&request, 1});
    store.verify(block.id, all, memory.data(), 0, block.chunks);
    append_block(store.layout(), block, memory.data(), tensors);
  }
  return tensors;
}

storage::IoCounters difference(const storage::IoCounters& after, const storage::IoCounters& before) {
  return {.read_bytes = after.read_bytes - before.read_bytes,
          .written_bytes = after.written_bytes - before.written_bytes,
          .reads = after.reads - before.reads,
          .writes = after.writes - before.writes,
          .syncs = after.syncs - before.syncs};
}

BatchData data_of(const TrainingOptions& options, BatchData data) {
  data.seq = batch_of(options, data).seq;
  return data;
}

// Feeds the batches to the session, one item each.
void run_items(train::Session& session, const TrainingOptions& options, std::span<const BatchData> batches,
               TrainingResult& result) {
  const auto item_of = [&](uint64_t step) {
    return train::WorkItem{
        .kind = options.evaluate ? train::WorkItem::Kind::kEvaluate : train::WorkItem::Kind::kTrain,
        .step = step,
        .data = data_of(options, batches[step - 1]),
        .commits = step % options.run.commit_every == 0 || step == batches.size()};
  };
  const auto next = [&](const train::WorkItem& item) -> std::optional<train::WorkItem> {
    return item.step < batches.size() ? std::optional(item_of(item.step + 1)) : std::nullopt;
  };
  const auto report_committed = [&] {
    for (const train::StepReport& report : session.take_committed())
      if (options.committed) options.committed(report);
  };
  const uint64_t first = session.store().step() + 1;
  if (first > batches.size()) return;
  session.run(item_of(first), next, [&](const train::WorkItem& item, const train::StepReport& report) {
    report_committed();
    result.predicted_read_bytes += report.read_bytes;
    result.predicted_written_bytes += report.written_bytes;
    if (item.kind == train::WorkItem::Kind::kFinish) return true;
    result.numbers += fmt::format("{:.17g} {:.17g}\n", report.loss, report.grad_norm);
    result.steps.push_back(report);
    return true;
  });
  report_committed();
}

}  // namespace

TrainingResult run_training(train::Model& model, const TrainingOptions& options,
                            std::span<const BatchData> batches) {
  return with_threads(options.threads, [&] {
    const TemporaryDirectory directory;
    const std::string run_dir = options.run_dir.empty() ? directory / "run" : options.run_dir;
    const Layout layout = train::make_layout(model, options.run);
    model.bind(layout);
    TrainingResult result;
    result.preflight =
        options.preflight != nullptr ? *options.preflight : plan_run(model, options, layout, batches);
    if (!storage::Store::exists(run_dir)) create(model, options, layout, run_dir);

    train::SessionOptions session_options = session_of(options);
    session_options.run_dir = run_dir;
    const train::TrainInput input{
        .run = options.run, .session = session_options, .model = model, .model_json = "{}"};
    const std::unique_ptr<storage::BlockIo> drive = make_io(options);
    const std::unique_ptr<storage::BlockIo> wrapped = options.wrap_io ? options.wrap_io(*drive) : nullptr;
    storage::BlockIo& io = wrapped ? *wrapped : *drive;
    train::Session session({.input = input,
                            .io = io,
                            .store = storage::Store::open(run_dir, {}, io),
                            .preflight = result.preflight});
    const storage::IoCounters before = io.counters();
    run_items(session, options, batches, result);
    result.moved = difference(io.counters(), before);
    result.digest = storage::digest(session.store(), io, [](double) {});
    result.tensors = read_tensors(session.store(), io);
    return result;
  });
}

uint64_t least_memory_bytes(train::Model& model, const TrainingOptions& options, const BatchData& batch) {
  return with_threads(options.threads, [&]() -> uint64_t {
    const Layout layout = train::make_layout(model, options.run);
    model.bind(layout);
    TrainingOptions too_small = options;
    too_small.memory_bytes = 1;
    try {
      ask_preflight(model, too_small, layout, batch);
    } catch (const Error& error) {
      // "give --memory 27MiB or more, or ..."
      const std::string& advice = error.advice();
      const std::string marker = "--memory ";
      const size_t first = advice.find(marker) + marker.size();
      const auto least = parse_size(advice.substr(first, advice.find(' ', first) - first));
      HEADRACE_CHECK(least.has_value(), advice);
      return *least;
    }
    HEADRACE_CHECK(false, "a budget of one byte was accepted");
    return 0;
  });
}

BatchData random_tokens(uint64_t seed, uint64_t sequences, uint64_t seq, uint64_t vocabulary) {
  uint64_t state = seed * 0x9E3779B97F4A7C15U + 1;
  const auto next = [&] {
    state = state * 6364136223846793005U + 1442695040888963407U;
    return int32_t((state >> 33) % vocabulary);
  };
  BatchData batch;
  for (uint64_t s = 0; s < sequences; s++)
    for (uint64_t t = 0, token = uint64_t(next()); t < seq; t++) {
      batch.inputs.push_back(int32_t(token));
      token = uint64_t(next());
      batch.targets.push_back(int32_t(token));
    }
  return batch;
}

}  // namespace headrace::testing

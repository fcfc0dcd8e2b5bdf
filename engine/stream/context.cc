#include "engine/stream/context.h"

#include <algorithm>
#include <numeric>

#include <oneapi/tbb/parallel_pipeline.h>

#include "storage/error.h"

namespace headrace::stream {

namespace tbb = oneapi::tbb;

Context::Context(const storage::Layout& layout, const EntrySpace& space, const ContextOptions& options)
    : layout_(layout),
      space_(space),
      options_(options),
      due_(layout.blocks().size()),
      gradient_exists_(layout.blocks().size()) {}

// --- tensors ---

Tensor Context::tensor(int64_t rows, int64_t columns) {
  const uint32_t index = temporaries_++;
  if (mode_ == Mode::kRecord)
    recorded_.temporary_bytes.push_back(uint64_t(rows) * uint64_t(columns) * sizeof(float));
  temporary_exists_.push_back(false);
  return {.entry = space_.temporary(index, parity_), .rows = rows, .columns = columns};
}

Tensor Context::block_tensor(const Parameter& frozen, uint32_t index) const {
  const storage::BlockLayout& block = layout_.block(layout_.first_block(frozen.tensor) + index);
  HEADRACE_CHECK(block.slots == 1 && index < block_count(frozen), "not a block of a frozen tensor");
  return {.entry = space_.weights(block.id), .rows = int64_t(block.rows), .columns = frozen.columns};
}

math::Matrix Context::matrix(const Tensor& tensor) const {
  return {
      .data = reinterpret_cast<float*>(streamer_->address(tensor.entry)) + tensor.first_row * tensor.columns,
      .rows = tensor.rows,
      .columns = tensor.columns,
      .stride = tensor.columns};
}

math::WeightView Context::weight_view(BlockId block, bool exact) const {
  const storage::BlockLayout& layout = layout_.block(block);
  const std::byte* data = streamer_->address(space_.weights(block));
  const std::byte* low = nullptr;
  if (options_.planes.weight_planes > 1)
    low = data + layout.planes[1].offset;
  else if (exact)
    low = streamer_->address(space_.moments(block));  // begins with the plane behind the weights
  return {.high = reinterpret_cast<const uint16_t*>(data),
          .low = reinterpret_cast<const uint16_t*>(low),
          .rows = int64_t(layout.rows),
          .columns = int64_t(layout.elements / layout.rows)};
}

float* Context::gradient_of(BlockId block) const {
  return reinterpret_cast<float*>(streamer_->address(space_.gradient(block)));
}

Workspace Context::workspace_of(const PlannedOp& op) const {
  if (op.workspace.entry == kNoEntry) return {};
  return {streamer_->address(op.workspace.entry), size_t(op.workspace.columns) * sizeof(float)};
}

bool Context::exists(EntryId entry) const {
  switch (space_.kind(entry)) {
    case EntryKind::kGradient:
      return gradient_exists_[space_.block(entry)];
    case EntryKind::kTemporary:
      return temporary_exists_[space_.temporary_index(entry)];
    default:
      return true;
  }
}

void Context::set_exists(EntryId entry, bool exists) {
  if (space_.kind(entry) == EntryKind::kGradient) gradient_exists_[space_.block(entry)] = exists;
  if (space_.kind(entry) == EntryKind::kTemporary) temporary_exists_[space_.temporary_index(entry)] = exists;
}

// --- operations: recorded, or checked against the record ---

void Context::add_access(EntryId entry, bool writes, bool last) {
  const bool existed = exists(entry);
  HEADRACE_CHECK(existed || writes, "a layer reads a tensor that nothing has written");
  const AccessMode mode = !writes ? AccessMode::kRead : existed ? AccessMode::kModify : AccessMode::kCreate;
  for (Access& access : accesses_) {
    if (access.entry != entry) continue;
    if (writes && access.mode == AccessMode::kRead) access.mode = AccessMode::kModify;
    return;
  }
  accesses_.push_back({.entry = entry, .mode = mode, .last = last});
  set_exists(entry, !last);
}

OpIndex Context::emit(OpKind kind, double flops) {
  if (mode_ == Mode::kRecord) {
    recorded_.ops.push_back({.kind = kind,
                             .first_access = uint32_t(recorded_.accesses.size()),
                             .access_count = uint32_t(accesses_.size())});
    recorded_.accesses.insert(recorded_.accesses.end(), accesses_.begin(), accesses_.end());
    recorded_.flops += flops;
  } else if (mode_ == Mode::kRun) {
    check_against_record(kind);
  }
  accesses_.clear();
  return first_op_ + cursor_++;
}

void Context::check_against_record(OpKind kind) {
  HEADRACE_CHECK(cursor_ < program_->ops.size(), "a step does more than its recording");
  const Op& op = program_->ops[cursor_];
  const std::span<const Access> expected = program_->accesses_of(op);
  const bool same = op.kind == kind && std::equal(expected.begin(), expected.end(), accesses_.begin(),
                                                  accesses_.end(), [](const Access& a, const Access& b) {
                                                    return a.entry == b.entry && a.mode == b.mode;
                                                  });
  HEADRACE_CHECK(same, "a step does something else than its recording");
}

Context::PlannedOp Context::plan_op(const Work& work, BlockId block, size_t item) {
  PlannedOp op{.block = block, .item = item, .workspace = {}};
  for (const Tensor& tensor : work.reads) add_access(tensor.entry, false);
  for (const Tensor& tensor : work.writes) add_access(tensor.entry, true);
  if (work.workspace_bytes > 0) {
    op.workspace = tensor(1, int64_t((work.workspace_bytes + sizeof(float) - 1) / sizeof(float)));
    add_access(op.workspace.entry, true);
  }
  op.index = emit(OpKind::kCompute, work.flops);
  return op;
}

Context::PlannedOp Context::plan_update(BlockId block) {
  PlannedOp op{.kind = OpKind::kUpdate, .block = block, .workspace = {}};
  add_access(space_.weights(block), true);
  if (options_.planes.has_moments()) add_access(space_.moments(block), true);
  add_access(space_.gradient(block), false, true);
  op.index = emit(OpKind::kUpdate, 0);
  due_[block] = false;
  return op;
}

void Context::plan_update_before(Unit& unit) {
  if (!due_[unit.rows.block]) return;
  unit.update_before = true;
  unit.before = plan_update(unit.rows.block);
}

Context::Unit Context::begin_unit(const Parameter& parameter, uint32_t block_index) const {
  const storage::BlockLayout& block = layout_.block(layout_.first_block(parameter.tensor) + block_index);
  Unit unit;
  unit.rows = {.block = block.id,
               .index = block_index,
               .first = int64_t(block.first_row),
               .count = int64_t(block.rows)};
  return unit;
}

std::vector<uint32_t> Context::blocks_of(const Parameter& parameter, std::span<const uint32_t> chosen) const {
  if (!chosen.empty()) return {chosen.begin(), chosen.end()};
  std::vector<uint32_t> all(layout_.block_count(parameter.tensor));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

// --- calls of layers ---

void Context::compute(const Work& work, const std::function<void(Workspace)>& run) {
  const PlannedOp op = plan_op(work, 0, 0);
  if (mode_ != Mode::kRun) return;
  guarded([&] {
    streamer_->acquire(op.index, false);
    streamer_->clock().computing(+1);
    if (options_.mathematics) run_isolated([&] { run(workspace_of(op)); });
    streamer_->clock().computing(-1);
    streamer_->complete(op.index, 0);
  });
}

void Context::forward(const ForwardCall& call) {
  std::vector<Unit> units;
  for (const uint32_t index : blocks_of(call.weight, call.blocks)) {
    Unit unit = begin_unit(call.weight, index);
    plan_update_before(unit);
    for (size_t item = 0; item < call.items; item++) {
      add_access(space_.weights(unit.rows.block), false);
      if (call.exact && options_.planes.weight_planes == 1)
        add_access(space_.moments(unit.rows.block), false);
      unit.ops.push_back(plan_op(call.work(unit.rows, item), unit.rows.block, item));
    }
    units.push_back(std::move(unit));
  }
  execute(units, call.order, [&](const Unit& unit, const PlannedOp& op) {
    call.run(unit.rows, weight_view(op.block, call.exact), op.item, workspace_of(op));
  });
}

void Context::backward(const BackwardCall& call) {
  std::vector<Unit> units;
  for (const uint32_t index : blocks_of(call.weight, call.blocks)) {
    Unit unit = begin_unit(call.weight, index);
    const BlockId block = unit.rows.block;
    plan_update_before(unit);
    for (size_t item = 0; item < call.items; item++) {
      const bool final = ++contributions_[block] == expected_[block];
      if (call.reads_weight || (final && is_masked(call.weight.tensor)))
        add_access(space_.weights(block), false);
      const bool first = !gradient_exists_[block];
      add_access(space_.gradient(block), true);
      PlannedOp op = plan_op(call.work(unit.rows, item), block, item);
      op.accumulate = first ? math::Accumulate::kNo : math::Accumulate::kYes;
      op.final = final;
      unit.ops.push_back(op);
    }
    if (unit.ops.back().final) {
      due_[block] = true;
      if (!options_.late_updates) {
        unit.update_after = true;
        unit.after = plan_update(block);
      }
    }
    units.push_back(std::move(unit));
  }
  execute(units, Order::kInOrder, [&](const Unit& unit, const PlannedOp& op) {
    const math::Matrix dw{.data = gradient_of(op.block),
                          .rows = unit.rows.count,
                          .columns = call.weight.columns,
                          .stride = call.weight.columns};
    call.run(unit.rows, call.reads_weight ? weight_view(op.block) : math::WeightView{}, op.item, dw,
             op.accumulate, workspace_of(op));
  });
}

void Context::finish_updates() {
  std::vector<Unit> units;
  for (BlockId block = 0; block < due_.size(); block++) {
    if (!due_[block]) continue;
    Unit unit;
    unit.rows.block = block;
    plan_update_before(unit);
    units.push_back(std::move(unit));
  }
  execute(units, Order::kAny, {});
}

// --- running ---

template <typename Body>
void Context::guarded(const Body& body) {
  try {
    body();
  } catch (...) {
    streamer_->fail(std::current_exception());
    throw;
  }
}

// The pipeline that overlaps the disk with the mathematics: while one block computes, the optimizer may work
// on the one before, and the one after waits for its bytes without holding a worker.
void Context::execute(std::vector<Unit>& units, Order order, const RunOp& run_op) {
  if (mode_ != Mode::kRun) return;
  size_t next = 0;
  const math::PipelineOrder pipeline;
  const auto compute_mode =
      order == Order::kAny ? tbb::filter_mode::parallel : tbb::filter_mode::serial_in_order;
  const auto acquire =
      tbb::make_filter<void, Unit*>(tbb::filter_mode::serial_in_order, [&](tbb::flow_control& flow) -> Unit* {
        math::enter_body();
        const math::PipelineOrder::Filter filter(pipeline);
        if (next == units.size()) {
          flow.stop();
          return nullptr;
        }
        Unit& unit = units[next++];
        guarded([&] {
          streamer_->acquire(unit.update_before ? unit.before.index : unit.ops.front().index, true);
        });
        return &unit;
      });
  const auto update_before = tbb::make_filter<Unit*, Unit*>(tbb::filter_mode::parallel, [&](Unit* unit) {
    math::enter_body();
    const math::PipelineOrder::Filter filter(pipeline);
    if (unit->update_before) run_update(unit->before);
    return unit;
  });
  const auto compute = tbb::make_filter<Unit*, Unit*>(compute_mode, [&](Unit* unit) {
    math::enter_body();
    const math::PipelineOrder::Filter filter(pipeline);
    run_ops(*unit, run_op);
    return unit;
  });
  const auto finish = tbb::make_filter<Unit*, void>(tbb::filter_mode::parallel, [&](Unit* unit) {
    math::enter_body();
    const math::PipelineOrder::Filter filter(pipeline);
    finish_unit(*unit);
  });
  tbb::parallel_pipeline(kSuspendsTasks ? options_.tokens : 1, acquire & update_before & compute & finish);
}

void Context::run_update(const PlannedOp& op) {
  guarded([&] {
    streamer_->acquire(op.index, true);
    streamer_->clock().computing(+1);
    if (options_.mathematics)
      run_isolated([&] {
        const EntryId weights = space_.weights(op.block), moments = space_.moments(op.block);
        updates_->update(op.block, streamer_->address(weights),
                         options_.planes.has_moments() ? streamer_->address(moments) : nullptr,
                         gradient_of(op.block));
      });
    streamer_->complete(op.index, op.block);
    streamer_->clock().computing(-1);
    updates_->updated(op.block);
  });
}

void Context::run_ops(Unit& unit, const RunOp& run_op) {
  for (const PlannedOp& op : unit.ops)
    guarded([&] {
      streamer_->acquire(op.index, true);
      streamer_->clock().computing(+1);
      if (options_.mathematics) run_isolated([&] { run_op(unit, op); });
      streamer_->clock().computing(-1);
      if (!op.final) streamer_->complete(op.index, op.block);
    });
}

void Context::finish_unit(Unit& unit) {
  if (unit.ops.empty() || !unit.ops.back().final) return;
  guarded([&] {
    const PlannedOp& op = unit.ops.back();
    streamer_->clock().computing(+1);
    if (options_.mathematics)
      run_isolated([&] {
        const bool masked = is_masked(layout_.block(op.block).tensor);
        updates_->gradient_ready(op.block, gradient_of(op.block),
                                 masked ? weight_view(op.block) : math::WeightView{});
      });
    streamer_->clock().computing(-1);
    streamer_->complete(op.index, op.block);
  });
  if (unit.update_after) run_update(unit.after);
}

// --- programs ---

void Context::start(Mode mode, uint32_t parity) {
  mode_ = mode;
  parity_ = parity;
  temporaries_ = 0;
  cursor_ = 0;
  temporary_exists_.clear();
  contributions_.assign(layout_.blocks().size(), 0);
}

void Context::set_due_updates(const DueUpdates& due) {
  due_ = due;
  gradient_exists_ = due;
}

Program Context::record(const Step& step, uint32_t parity) {
  const DueUpdates due = due_;
  first_op_ = 0;
  expected_.assign(layout_.blocks().size(), 0);
  start(Mode::kCount, parity);
  step(*this);
  expected_ = contributions_;
  set_due_updates(due);
  recorded_ = Program{};
  recorded_.parity = parity;
  start(Mode::kRecord, parity);
  step(*this);
  recorded_.contributions = expected_;
  mark_last_accesses(recorded_, space_);
  mode_ = Mode::kIdle;
  return std::move(recorded_);
}

void Context::run(const Step& step, const Program& program, OpIndex first_op, Streamer& streamer,
                  Updates& updates) {
  program_ = &program;
  first_op_ = first_op;
  streamer_ = &streamer;
  updates_ = &updates;
  expected_ = program.contributions;
  start(Mode::kRun, program.parity);
  step(*this);
  HEADRACE_CHECK(cursor_ == program.ops.size(), "a step does less than its recording");
  mode_ = Mode::kIdle;
}

}  // namespace headrace::stream

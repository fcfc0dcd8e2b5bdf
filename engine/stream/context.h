// What layers see of the engine. A layer's code asks for tensors and says what it computes from what; the
// same code is run dry to record the schedule of a step, and then for real, checked against that record.
//
// Mathematics happens only inside the functions handed to compute(), forward() and backward(): these are not
// called in a dry run, where tensors have shapes and no storage. Everything else (which calls are made, in
// which order, with which shapes) must depend only on the model's configuration and the batch.
//
// Used from one thread at a time; it spreads the work over the oneTBB arena of the caller. Faults of the disk
// surface as Error from any call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "engine/math/gemm.h"
#include "engine/math/views.h"
#include "engine/stream/schedule.h"
#include "engine/stream/streamer.h"
#include "storage/layout.h"

namespace headrace::stream {

// A float32 matrix that a step computes: [rows, columns], contiguous.
struct Tensor {
  EntryId entry = kNoEntry;
  int64_t rows = 0, columns = 0;
  int64_t first_row = 0;  // of the matrix that the entry holds, where this is a part of it

  // Rows [first, first + count), in the same entry.
  Tensor row_range(int64_t first, int64_t count) const { return {entry, count, columns, first_row + first}; }
};

// A tensor of the layout: a matrix of weights, or a bundle of vectors as [elements, 1].
struct Parameter {
  storage::TensorId tensor = 0;
  int64_t rows = 0, columns = 0;
};

using Workspace = std::span<std::byte>;

// The operands of one operation. What a tensor held before its first write in a step is undefined.
struct Work {
  std::vector<Tensor> reads = {}, writes = {};
  size_t workspace_bytes = 0;
  double flops = 0;
};

// Rows [first, first + count) of a parameter: those of one block.
struct BlockRows {
  BlockId block = 0;
  uint32_t index = 0;  // of the block among the parameter's
  int64_t first = 0, count = 0;
};

enum class Order : uint8_t {
  kAny,      // blocks share no output and may overlap
  kInOrder,  // one after the other
};

struct ForwardCall {
  Parameter weight;
  std::span<const uint32_t> blocks = {};  // of the parameter, by index; empty: all
  size_t items = 1;                       // micro-batches inside each block
  Order order = Order::kAny;
  bool exact = false;  // the view has both planes, whatever the products compute with
  std::function<Work(const BlockRows&, size_t item)> work;
  std::function<void(const BlockRows&, const math::WeightView&, size_t item, Workspace)> run;
};

struct BackwardCall {
  Parameter weight;
  std::span<const uint32_t> blocks = {};
  size_t items = 1;
  bool reads_weight = true;  // otherwise the view handed to `run` is empty
  std::function<Work(const BlockRows&, size_t item)> work;
  // dw [rows, columns] of the block; kNo: the first contribution, dw is undefined before.
  std::function<void(const BlockRows&, const math::WeightView&, size_t item, math::Matrix dw,
                     math::Accumulate, Workspace)>
      run;
};

// What happens to gradients; called on workers, for different blocks at the same time.
class Updates {
 public:
  virtual ~Updates() = default;
  // The last contribution has been added. `weights`: as the products see them, where ContextOptions::masked
  // says so, to mask the gradient by; else empty.
  virtual void gradient_ready(BlockId block, float* gradient, const math::WeightView& weights) = 0;
  // Applies the optimizer to a block's two entries; `moments` null where it has but the weights.
  virtual void update(BlockId block, std::byte* weights, std::byte* moments, const float* gradient) = 0;
  // Its new content has been handed to the store.
  virtual void updated(BlockId block) = 0;
};

struct ContextOptions {
  BlockPlanes planes;
  bool late_updates = false;  // an update waits for the end of its step, and runs before the block's next use
  std::vector<bool> masked = {};  // by tensor: Updates::gradient_ready() gets its weights; empty: none
  size_t tokens = 3;              // blocks in a pipeline at a time
  bool mathematics =
      true;  // false, for measuring the disk alone: bytes move, are checked, and stay as they are
};

class Context {
 public:
  Context(const storage::Layout& layout, const EntrySpace& space, const ContextOptions& options);

  // --- for layers and models ---
  Tensor tensor(int64_t rows, int64_t columns);
  math::Matrix matrix(const Tensor& tensor) const;  // only inside a function that names it in its Work
  void compute(const Work& work, const std::function<void(Workspace)>& run);
  void forward(const ForwardCall& call);
  void backward(const BackwardCall& call);
  // A block of a frozen tensor, to be read. `index`: of the block among the tensor's.
  Tensor block_tensor(const Parameter& frozen, uint32_t index) const;
  uint32_t block_count(const Parameter& parameter) const { return layout_.block_count(parameter.tensor); }
  // A bundle's elements as float32: [1, elements].
  Tensor load_vectors(const Parameter& bundle);
  // The same of a state tensor (Model::is_state), always exact. Its "gradient" is its next value: contributed
  // to after finish_updates(), which would otherwise take it for the step before.
  Tensor load_state(const Parameter& bundle);
  // The gradient of a bundle: [1, elements], zero at first, to be added to by compute(); end_vectors() after
  // the last addition of an item.
  Tensor gradient_of_vectors(const Parameter& bundle);
  void end_vectors(const Parameter& bundle);
  // Runs all updates that are still due.
  void finish_updates();

  // --- for the trainer ---
  using Step = std::function<void(Context&)>;
  // Records what `step` does. Calls it twice: gradients are complete when their last contribution, counted
  // the first time, has been added.
  Program record(const Step& step, uint32_t parity);
  // Does it. `first_op` is the plan's.
  void run(const Step& step, const Program& program, OpIndex first_op, Streamer& streamer, Updates& updates);
  // Which blocks wait for a late update.
  using DueUpdates = std::vector<bool>;
  const DueUpdates& due_updates() const { return due_; }
  void set_due_updates(const DueUpdates& due);

 private:
  enum class Mode : uint8_t { kIdle, kCount, kRecord, kRun };
  struct PlannedOp {
    OpIndex index = 0;
    OpKind kind = OpKind::kCompute;
    BlockId block = 0;
    size_t item = 0;
    Tensor workspace;
    math::Accumulate accumulate = math::Accumulate::kNo;
    bool final = false;  // the last contribution to the block's gradient
  };
  // What a pipeline's token carries: a block with its operations, an update before or after them.
  struct Unit {
    BlockRows rows;
    bool update_before = false, update_after = false;
    PlannedOp before, after;
    std::vector<PlannedOp> ops;
  };
  using RunOp = std::function<void(const Unit&, const PlannedOp&)>;

  void start(Mode mode, uint32_t parity);
  Unit begin_unit(const Parameter& parameter, uint32_t block_index) const;
  std::vector<uint32_t> blocks_of(const Parameter& parameter, std::span<const uint32_t> chosen) const;
  PlannedOp plan_op(const Work& work, BlockId block, size_t item);
  PlannedOp plan_update(BlockId block);
  void plan_update_before(Unit& unit);
  bool is_masked(storage::TensorId tensor) const {
    return !options_.masked.empty() && options_.masked[tensor];
  }
  void add_access(EntryId entry, bool writes, bool last = false);
  bool exists(EntryId entry) const;
  void set_exists(EntryId entry, bool exists);
  OpIndex emit(OpKind kind, double flops);
  void check_against_record(OpKind kind);
  void execute(std::vector<Unit>& units, Order order, const RunOp& run_op);
  template <typename Body>
  void guarded(const Body& body);
  void run_update(const PlannedOp& op);
  void run_ops(Unit& unit, const RunOp& run_op);
  void finish_unit(Unit& unit);
  Tensor load(const Parameter& bundle, bool exact);
  math::WeightView weight_view(BlockId block, bool exact = false) const;
  float* gradient_of(BlockId block) const;
  Workspace workspace_of(const PlannedOp& op) const;

  const storage::Layout& layout_;
  const EntrySpace& space_;
  ContextOptions options_;
  Mode mode_ = Mode::kIdle;
  DueUpdates due_;
  std::vector<uint32_t> contributions_, expected_;  // by block
  std::vector<bool> gradient_exists_;               // by block
  std::vector<bool> temporary_exists_;              // by index
  uint32_t temporaries_ = 0, parity_ = 0;
  std::vector<Access> accesses_;  // of the operation being emitted

  Program recorded_;                  // while recording
  const Program* program_ = nullptr;  // while running
  OpIndex first_op_ = 0, cursor_ = 0;
  Streamer* streamer_ = nullptr;
  Updates* updates_ = nullptr;
};

}  // namespace headrace::stream

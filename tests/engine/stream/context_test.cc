#include "engine/stream/context.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "engine/stream/cache.h"
#include "engine/train/preflight.h"
#include "storage/aligned_memory.h"
#include "storage/error.h"
#include "tests/support/memory_io.h"
#include "tests/support/stream_testing.h"

namespace headrace::stream {
namespace {

using headrace::testing::MemoryFiles;
using headrace::testing::SimpleStore;
using math::Accumulate;
using math::Matrix;
using math::WeightView;

storage::TensorSpec spec(const std::string& name, uint64_t rows, uint64_t columns, uint64_t block_rows) {
  return {.name = name,
          .rows = rows,
          .columns = columns,
          .block_rows = block_rows,
          .slots = 2,
          .planes = {{"weight.high", 2}, {"weight.low", 2}, {"moment1", 4}, {"moment2", 4}},
          .parts = {{.name = name, .shape = {rows, columns}, .first_element = 0}}};
}

// Notes what the engine asks of the optimizer, and checks gradients against what the test expects.
class NotedUpdates : public Updates {
 public:
  void gradient_ready(BlockId block, float* gradient, const math::WeightView&) override {
    const std::lock_guard lock(mutex_);
    ready[block].push_back(gradient[0]);
  }
  void update(BlockId block, std::byte*, std::byte*, const float* gradient) override {
    const std::lock_guard lock(mutex_);
    updates[block].push_back(gradient[0]);
  }
  void updated(BlockId block) override {
    const std::lock_guard lock(mutex_);
    done.push_back(block);
  }

  std::map<BlockId, std::vector<float>> ready, updates;  // first elements, in the order of the calls
  std::vector<BlockId> done;

 private:
  std::mutex mutex_;
};

// A weight of three blocks and one of one block, in an arena so small that everything streams.
class ContextTest : public ::testing::Test {
 protected:
  static constexpr uint32_t kBlocks = 4;
  static constexpr BlockId kOther = 3;
  const Parameter weight_{.tensor = 0, .rows = 600, .columns = 8};
  const Parameter other_{.tensor = 1, .rows = 100, .columns = 8};

  void start(bool late_updates) {
    options_ = {.planes = planes_, .late_updates = late_updates};
    recorder_ = std::make_unique<Context>(layout_, space_, options_);
    runner_ = std::make_unique<Context>(layout_, space_, options_);
    std::vector<std::byte>& content = files_.content(SimpleStore::kPath);
    for (const storage::BlockLayout& block : layout_.blocks()) {
      content.resize(store_.offset(block.id) + block.payload_bytes);
      store_.expect(block.id, content.data() + store_.offset(block.id));
    }
  }

  Program record(const Context::Step& step) {
    parity_ = 1 - parity_;
    return recorder_->record(step, parity_);
  }

  // Runs steps one after the other, each with what was recorded of `recorded` at its place.
  void run(const std::vector<Context::Step>& recorded, const std::vector<Context::Step>& steps) {
    std::vector<Program> programs;
    uint64_t least = 0;
    for (const Context::Step& step : recorded) {
      programs.push_back(record(step));
      least = std::max(least, CachePlanner::least_arena_bytes(programs.back(), space_, sizes_));
    }
    const storage::AlignedMemory arena(least);
    SpillSpace spill_space(1);
    CachePlanner planner(space_, sizes_, {.arena_bytes = least}, &spill_space);
    const storage::FileIndex spill =
        io_->add_file({.descriptor = -1, .path = "spill", .direct = true, .drive = 0});
    Streamer streamer({.store = store_,
                       .io = *io_,
                       .space = space_,
                       .planes = planes_,
                       .arena = arena.span(),
                       .spill_files = {spill}});
    for (size_t i = 0; i < steps.size(); i++) {
      Plan plan = planner.plan(programs[i], i + 1 < programs.size() ? &programs[i + 1] : nullptr);
      const OpIndex first = plan.first_op;
      streamer.begin(programs[i], std::move(plan));
      runner_->run(steps[i], programs[i], first, streamer, updates_);
    }
    streamer.wait_for_all();
  }
  void run(const std::vector<Context::Step>& steps) { run(steps, steps); }

  // y [1, rows] of ones: reads the weight.
  void forward(Context& context, const Parameter& weight) {
    const Tensor y = context.tensor(1, weight.rows);
    context.forward({.weight = weight,
                     .work = [&](const BlockRows&, size_t) { return Work{.writes = {y}}; },
                     .run = [&](const BlockRows&, const WeightView&, size_t, Workspace) { forwards_++; }});
  }
  // Adds `value` to every element of the weight's gradient, once an item.
  void backward(Context& context, const Parameter& weight, float value, size_t items = 1) {
    context.backward(
        {.weight = weight,
         .items = items,
         .work = [](const BlockRows&, size_t) { return Work{}; },
         .run =
             [&](const BlockRows&, const WeightView&, size_t, Matrix dw, Accumulate accumulate, Workspace) {
               for (int64_t i = 0; i < dw.rows * dw.columns; i++)
                 dw.data[i] = accumulate == Accumulate::kYes ? dw.data[i] + value : value;
               backwards_++;
             }});
  }
  Context::Step tied_step() {
    return [this](Context& context) {
      forward(context, weight_);
      forward(context, other_);
      backward(context, other_, 10);
      backward(context, weight_, 1, 2);
      backward(context, weight_, 4);
    };
  }

  // Operations of a kind that access an entry, by index.
  std::vector<size_t> operations(const Program& program, EntryId entry, OpKind kind) const {
    std::vector<size_t> found;
    for (size_t i = 0; i < program.ops.size(); i++)
      for (const Access& access : program.accesses_of(program.ops[i]))
        if (access.entry == entry && program.ops[i].kind == kind) found.push_back(i);
    return found;
  }

  const storage::Layout layout_{{spec("weight", 600, 8, 256), spec("other", 100, 8, 256)}};
  const BlockPlanes planes_{};
  const EntrySpace space_{kBlocks};
  const train::BlockEntrySizes sizes_{layout_, space_, planes_};
  MemoryFiles files_;
  std::unique_ptr<storage::BlockIo> io_ = files_.make_io({.threads = 2});
  SimpleStore store_{layout_, *io_};
  ContextOptions options_;
  std::unique_ptr<Context> recorder_, runner_;
  NotedUpdates updates_;
  uint32_t parity_ = 0;
  std::atomic<int> forwards_ = 0, backwards_ = 0;
};

TEST_F(ContextTest, RecordsWithoutMathematics) {
  start(false);
  const Program program = record(tied_step());
  EXPECT_EQ(forwards_ + backwards_, 0);
  EXPECT_EQ(program.ops.size(), 3U + 1 + (1 + 1) + 3 * 2 + 3 + 3) << "with an update for each of four blocks";
}

TEST_F(ContextTest, RunsWhatItRecorded) {
  start(false);
  run({tied_step(), tied_step()});
  EXPECT_EQ(forwards_, 2 * 4);
  EXPECT_EQ(backwards_, 2 * (1 + 6 + 3));
}

TEST_F(ContextTest, CountsContributionsAndUpdatesAfterTheLast) {
  start(false);
  const Program program = record(tied_step());
  EXPECT_EQ(program.contributions, (std::vector<uint32_t>{3, 3, 3, 1}));
  for (BlockId block = 0; block < kBlocks; block++) {
    const std::vector<size_t> updates = operations(program, space_.gradient(block), OpKind::kUpdate);
    ASSERT_EQ(updates.size(), 1U);
    EXPECT_GT(updates[0], operations(program, space_.gradient(block), OpKind::kCompute).back());
  }
}

TEST_F(ContextTest, HandsOverTheSumOfAllContributionsOnce) {
  for (const bool late : {false, true}) {
    updates_.ready.clear();
    updates_.updates.clear();
    updates_.done.clear();
    start(late);
    const Context::Step finish = [](Context& context) { context.finish_updates(); };
    run({tied_step(), tied_step(), finish});
    for (BlockId block = 0; block < kBlocks; block++) {
      const float expected = block == kOther ? 10.0F : 1 + 1 + 4;
      EXPECT_EQ(updates_.ready[block], (std::vector<float>{expected, expected})) << "block " << block;
      EXPECT_EQ(updates_.updates[block], (std::vector<float>{expected, expected})) << "block " << block;
      EXPECT_EQ(std::count(updates_.done.begin(), updates_.done.end(), block), 2);
    }
  }
}

TEST_F(ContextTest, UpdatesLateBeforeTheNextUse) {
  start(true);
  const Program first = record(tied_step()), second = record(tied_step());
  const Program end = record([](Context& context) { context.finish_updates(); });
  for (BlockId block = 0; block < kBlocks; block++) {
    EXPECT_TRUE(operations(first, space_.weights(block), OpKind::kUpdate).empty());
    const std::vector<size_t> updates = operations(second, space_.weights(block), OpKind::kUpdate);
    ASSERT_EQ(updates.size(), 1U);
    EXPECT_LT(updates[0], operations(second, space_.weights(block), OpKind::kCompute).front());
    EXPECT_LT(updates[0], operations(second, space_.gradient(block), OpKind::kCompute).front());
    EXPECT_EQ(operations(end, space_.weights(block), OpKind::kUpdate).size(), 1U);
  }
}

TEST_F(ContextTest, KeepsLateUpdatesOfBlocksThatAStepDoesNotUse) {
  start(true);
  record(tied_step());
  const Program program = record([this](Context& context) { forward(context, other_); });
  EXPECT_EQ(operations(program, space_.weights(kOther), OpKind::kUpdate).size(), 1U);
  EXPECT_TRUE(operations(program, space_.weights(0), OpKind::kUpdate).empty());
  EXPECT_EQ(recorder_->due_updates(), (Context::DueUpdates{true, true, true, false}));
}

TEST_F(ContextTest, UpdatesNothingInAForwardPass) {
  start(false);
  run({[this](Context& context) { forward(context, weight_); }});
  EXPECT_TRUE(updates_.ready.empty());
  EXPECT_TRUE(updates_.updates.empty());
}

TEST_F(ContextTest, TakesChosenBlocksOnly) {
  start(false);
  const std::vector<uint32_t> chosen{0, 2};
  const Program program = record([&](Context& context) {
    const Tensor y = context.tensor(1, 600);
    context.forward({.weight = weight_,
                     .blocks = chosen,
                     .work = [&](const BlockRows&, size_t) { return Work{.writes = {y}}; },
                     .run = [](const BlockRows&, const WeightView&, size_t, Workspace) {}});
  });
  EXPECT_EQ(operations(program, space_.weights(0), OpKind::kCompute).size(), 1U);
  EXPECT_TRUE(operations(program, space_.weights(1), OpKind::kCompute).empty());
  EXPECT_EQ(operations(program, space_.weights(2), OpKind::kCompute).size(), 1U);
}

TEST_F(ContextTest, SurfacesWhatALayerThrows) {
  start(false);
  const Context::Step step = [this](Context& context) {
    const Tensor y = context.tensor(1, weight_.rows);
    context.forward({.weight = weight_,
                     .work = [&](const BlockRows&, size_t) { return Work{.writes = {y}}; },
                     .run =
                         [](const BlockRows& rows, const WeightView&, size_t, Workspace) {
                           if (rows.index == 1) throw Error(ErrorKind::kFailed, "a layer's own fault");
                         }});
  };
  headrace::testing::run_within(60, "a layer that throws", [&] { EXPECT_THROW(run({step}), Error); });
}

using ContextDeathTest = ContextTest;

TEST_F(ContextDeathTest, RefusesToRunSomethingElseThanItRecorded) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  start(false);
  const Context::Step other = [this](Context& context) {
    forward(context, other_);
    forward(context, weight_);
    backward(context, other_, 10);
    backward(context, weight_, 1, 2);
    backward(context, weight_, 4);
  };
  EXPECT_DEATH(run({tied_step()}, {other}), "something else than its recording");
}

TEST_F(ContextDeathTest, RefusesToDoLessThanItRecorded) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  start(false);
  const Context::Step less = [this](Context& context) { forward(context, weight_); };
  EXPECT_DEATH(run({tied_step()}, {less}), "less than its recording");
}

TEST_F(ContextDeathTest, RefusesToReadWhatNothingHasWritten) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  start(false);
  const Context::Step step = [](Context& context) {
    const Tensor x = context.tensor(1, 1);
    context.compute({.reads = {x}}, [](Workspace) {});
  };
  EXPECT_DEATH(record(step), "reads a tensor that nothing has written");
}

}  // namespace
}  // namespace headrace::stream

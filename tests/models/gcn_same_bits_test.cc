// Graph convolutional networks give the same bits for every memory budget, thread count, micro-batch and
// block size; their features stream, and are not written.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "engine/train/trainer.h"
#include "models/gcn.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/training_run.h"

namespace headrace::models {
namespace {

using testing::TrainingOptions;
using testing::TrainingResult;

constexpr uint64_t kSteps = 3;

GcnConfig config_of(uint64_t graphs) {
  GcnConfig config;
  config.hidden = {300, 24};  // more than a panel of rows: several blocks
  config.nodes = 1100;
  config.features = 90;
  config.classes = 6;
  config.edges = 4000;
  config.graphs = graphs;
  config.pool_ratio = graphs > 0 ? 0.5 : 1;
  return config;
}

TrainingOptions base_options() {
  TrainingOptions options;
  options.run.lr = 0.01;
  options.run.warmup = 0;
  options.run.block_bytes = 4096;
  options.run.clip = 1;
  return options;
}

class GcnSameBits : public ::testing::TestWithParam<uint64_t> {
 protected:
  GcnSameBits() : model_(make_gcn(config_of(GetParam()))) {
    train::BatchData batch;
    model_->draw(5, 0, 0, batch);
    for (size_t i = 0; i < batch.targets.size(); i += 3) batch.targets[i] = -1;
    batches_.assign(kSteps, batch);
    expected_ = run_training(*model_, base_options(), batches_);
  }
  void expect_same(const TrainingOptions& options, const std::string& what) {
    const TrainingResult result = run_training(*model_, options, batches_);
    EXPECT_EQ(result.numbers, expected_.numbers) << what;
    EXPECT_EQ(result.digest, expected_.digest) << what;
    EXPECT_EQ(result.moved.read_bytes, result.predicted_read_bytes) << what;
    EXPECT_EQ(result.moved.written_bytes, result.predicted_written_bytes) << what;
  }
  std::unique_ptr<train::Model> model_;
  std::vector<train::BatchData> batches_;
  TrainingResult expected_;
};

TEST_P(GcnSameBits, ForBudgetsThreadsMicroBatchesAndBlockSizes) {
  for (const uint32_t threads : {1U, 3U}) {
    TrainingOptions options = base_options();
    options.threads = threads;
    options.arena_bytes = 0;
    expect_same(options, std::to_string(threads) + " threads, the least arena");
  }
  for (const uint64_t micro_batch : {1, 2, 5})
    for (const bool outside : {false, true}) {
      TrainingOptions options = base_options();
      options.policy = train::ExecutionPolicy{.micro_batch = micro_batch, .blocks_outside = outside};
      options.arena_bytes = 0;
      expect_same(options, options.policy->description());
    }
  for (const uint64_t block_bytes : {uint64_t{1} << 18, uint64_t{1} << 22}) {
    TrainingOptions options = base_options();
    options.run.block_bytes = block_bytes;
    expect_same(options, std::to_string(block_bytes) + " bytes a block");
  }
}

TEST_P(GcnSameBits, WithoutWritingFeatures) {
  TrainingOptions options = base_options();
  options.arena_bytes = 0;
  const uint64_t features = config_of(0).nodes * config_of(0).features * sizeof(float);
  const storage::Layout layout = train::make_layout(*model_, options.run);
  uint64_t trained = 0;
  for (const storage::BlockLayout& block : layout.blocks())
    if (block.slots == 2) trained += block.payload_bytes;
  options.run.clip = 0;  // nothing spills gradients
  options.policy = train::ExecutionPolicy{.micro_batch = 5};
  options.arena_bytes = uint64_t{32} << 20;
  const TrainingResult result = run_training(*model_, options, batches_);
  EXPECT_EQ(result.moved.written_bytes, kSteps * trained);
  EXPECT_GE(result.moved.read_bytes, features);
}

TEST_P(GcnSameBits, AfterAStopBetweenSteps) {
  const testing::TemporaryDirectory directory;
  TrainingOptions options = base_options();
  options.run_dir = directory / "run";
  const testing::TrainingResult part = run_training(*model_, options, {batches_.data(), 1});
  EXPECT_NE(part.digest, expected_.digest);
  EXPECT_EQ(run_training(*model_, options, batches_).digest, expected_.digest);
}

INSTANTIATE_TEST_SUITE_P(Tasks, GcnSameBits, ::testing::Values(0, 40), [](const auto& tested) {
  return std::string(tested.param == 0 ? "Nodes" : "Graphs");
});

}  // namespace
}  // namespace headrace::models

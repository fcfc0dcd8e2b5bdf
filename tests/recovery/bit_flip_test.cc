// A flipped bit anywhere in a run's shards and catalog is found before anything is done with it, or lies
// where nothing is: then all that is read is the same, and the training goes on to the same end.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <random>
#include <vector>

#include "build_paths.h"
#include "storage/block_io.h"
#include "storage/catalog.h"
#include "storage/checkpoint_dir.h"
#include "storage/digest.h"
#include "storage/file.h"
#include "storage/store.h"
#include "storage/tensor_source.h"
#include "tests/support/child_process.h"
#include "tests/support/tool_run.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using namespace storage;
using testing::ChildResult;
using testing::ToolRun;

constexpr uint64_t kSteps = 4, kMoreSteps = 6;
constexpr uint64_t kMetaBytes = 8192;  // of LMDB's two meta pages
const char* const kConfig =
    R"({"model_type": "gpt2", "n_layer": 1, "n_embd": 32, "n_head": 2, "vocab_size": 256, "n_positions": 16})";

struct Region {
  std::string name, path;
  uint64_t offset = 0, bytes = 0;
};

// How flips of a region's bits ended.
struct Outcomes {
  uint64_t flips = 0, detected = 0, without_effect = 0;
};

class BitFlips : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(tool_.train("further", kMoreSteps, options_).exit_status, 0);
    further_digest_ = tool_.digest("further");
    ASSERT_EQ(tool_.train("run", kSteps, options_).exit_status, 0);
    run_ = tool_.path("run");
    fs::copy(run_, tool_.path("kept"), fs::copy_options::recursive);
    expected_ = read_all(run_);
    find_regions();
  }

  // All that can be read of a run, as one text.
  static std::string read_all(const std::string& run) {
    const auto io = make_block_io({.backend = IoBackend::kThreads, .threads = 1});
    const auto store = Store::open(run, {}, *io);
    std::string all = fmt::format("{} {} {} {}\n", digest(*store, *io), store->step(), store->cursor_json(),
                                  store->model_json());
    for (const TensorSpec& tensor : store->layout().tensors())
      for (const TensorPart& part : tensor.parts) all += part.name + "\n";
    return all + testing::read_file(run + "/metrics.jsonl");
  }

  void find_regions() {
    const CatalogContent content = Catalog(run_ + "/catalog", CatalogAccess::kRead).load();
    const std::string shard = "/shards/000/data.mdb", catalog = "/catalog/data.mdb";
    std::map<uint64_t, uint64_t> payloads;  // by offset, of both slots
    for (const BlockRecord& block : content.blocks)
      for (uint32_t slot = 0; slot < 2; slot++) {
        const uint64_t offset = content.places[block.block].offsets[slot];
        const uint64_t bytes = content.layout.block(block.block).payload_bytes;
        payloads[offset] = bytes;
        regions_.push_back(
            {slot == block.slot ? "payload" : "payload of the unused slot", shard, offset, bytes});
      }
    uint64_t at = kMetaBytes;
    regions_.push_back({"meta pages of the shard", shard, 0, kMetaBytes});
    payloads[fs::file_size(run_ + shard)] = 0;
    for (const auto& [offset, bytes] : payloads) {
      if (offset > at) regions_.push_back({"structure of the shard", shard, at, offset - at});
      at = offset + bytes;
    }
    regions_.push_back({"meta pages of the catalog", catalog, 0, kMetaBytes});
    regions_.push_back(
        {"pages of the catalog", catalog, kMetaBytes, fs::file_size(run_ + catalog) - kMetaBytes});
  }

  static void flip(const std::string& path, uint64_t offset, int bit) {
    const File file = File::open(path, OpenMode::kReadWrite);
    std::byte value{};
    file.pread_all({&value, 1}, offset);
    value ^= std::byte(1 << bit);
    file.pwrite_all({&value, 1}, offset);
  }

  // "" where the flip was detected; what was read elsewhere.
  static ChildResult read_in_child(const std::string& run) {
    return testing::run_in_child([&]() -> std::string {
      try {
        return read_all(run);
      } catch (const Error& error) {
        return fmt::format("error {}: {}", int(error.kind()), error.what());
      }
    });
  }

  void try_flip(const Region& region, uint64_t offset, int bit, bool goes_on) {
    SCOPED_TRACE(fmt::format("{}: bit {} at {} of {}", region.name, bit, offset, region.path));
    flip(run_ + region.path, offset, bit);
    const ChildResult result = read_in_child(run_);
    Outcomes& outcomes = outcomes_[region.name];
    outcomes.flips++;
    EXPECT_EQ(result.signal, 0);
    if (result.output.starts_with("error ")) {
      EXPECT_TRUE(result.output.starts_with("error 4: ")) << result.output;
      outcomes.detected++;
    } else {
      EXPECT_EQ(result.output, expected_) << "read something else without noticing";
      EXPECT_NE(region.name, "payload");
      outcomes.without_effect++;
      if (goes_on) {
        EXPECT_EQ(tool_.train("run", kMoreSteps, options_).exit_status, 0);
        EXPECT_EQ(tool_.digest("run"), further_digest_);
      }
    }
    restore(region.path, goes_on);
  }

  void restore(const std::string& path, bool all) {
    if (all) {
      fs::remove_all(run_);
      fs::copy(tool_.path("kept"), run_, fs::copy_options::recursive);
    } else {
      fs::copy_file(tool_.path("kept") + path, run_ + path, fs::copy_options::overwrite_existing);
    }
  }

  const ToolRun tool_{HEADRACE_BINARY, kConfig, 2000};
  const std::vector<std::string> options_{
      "--seq", "16", "--batch", "2", "--schedule", "constant", "--schedule-steps", "6", "--memory", "64MiB"};
  std::string run_, expected_, further_digest_;
  std::vector<Region> regions_;
  std::map<std::string, Outcomes> outcomes_;
};

// HEADRACE_BIT_FLIPS says how many, HEADRACE_SEED which. A third goes to payloads, the rest to all else
// evenly.
TEST_F(BitFlips, AreFoundOrWithoutEffect) {
  const char* wanted = std::getenv("HEADRACE_BIT_FLIPS");
  const char* given = std::getenv("HEADRACE_SEED");
  const uint64_t count = wanted == nullptr ? 400 : std::strtoull(wanted, nullptr, 10);
  const uint64_t seed = given == nullptr ? std::random_device{}() : std::strtoull(given, nullptr, 10);
  fmt::print("seed {}\n", seed);
  std::mt19937_64 random(seed);
  std::map<std::string, std::vector<Region>> by_name;
  for (const Region& region : regions_) by_name[region.name].push_back(region);
  std::vector<std::string> names(2, "payload");
  for (const auto& [name, all] : by_name) names.push_back(name);
  uint64_t gone_on = 0;
  for (uint64_t i = 0; i < count && !HasFailure(); i++) {
    const std::vector<Region>& candidates = by_name.at(names[i % names.size()]);
    const Region& region = candidates[random() % candidates.size()];
    const bool goes_on = random() % 40 == 0;
    gone_on += goes_on;
    try_flip(region, region.offset + random() % region.bytes, int(random() % 8), goes_on);
  }
  for (const auto& [name, outcomes] : outcomes_)
    fmt::print("{}: {} flips, {} detected, {} without effect\n", name, outcomes.flips, outcomes.detected,
               outcomes.without_effect);
  fmt::print("trained on after {} of them\n", gone_on);
}

// A checkpoint has no bit that nobody checks. As many flips as of the run.
TEST_F(BitFlips, OfACheckpointAreFound) {
  const char* wanted = std::getenv("HEADRACE_BIT_FLIPS");
  const uint64_t count = wanted == nullptr ? 400 : std::strtoull(wanted, nullptr, 10);
  const uint64_t seed = std::random_device{}();
  fmt::print("seed {}\n", seed);
  std::mt19937_64 random(seed);
  ASSERT_EQ(tool_.run({"checkpoint", "run"}).exit_status, 0);
  const std::string checkpoint = checkpoint_directory(run_, kSteps, false);
  const auto read = [&] { return digest(*open_source(checkpoint, {.use = SourceUse::kRead})) + "\n"; };
  ASSERT_EQ(read(), tool_.digest("run"));
  for (const std::string& path : {manifest_path(checkpoint), checkpoint + "/pack-00000"}) {
    const uint64_t bytes = fs::file_size(path);
    for (uint64_t i = 0; i < count / 2 && !HasFailure(); i++) {
      const uint64_t offset = random() % bytes;
      const int bit = int(random() % 8);
      SCOPED_TRACE(fmt::format("bit {} at {} of {}", bit, offset, path));
      flip(path, offset, bit);
      try {
        ADD_FAILURE() << "read " << read() << " without noticing";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kCorrupt) << error.what();
      }
      flip(path, offset, bit);
    }
    fmt::print("{}: {} flips, all detected\n", fs::path(path).filename().string(), count / 2);
  }
  EXPECT_EQ(read(), tool_.digest("run"));
}

}  // namespace
}  // namespace headrace

#include "storage/checkpoint_source.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_format.h"
#include "storage/checkpoint_reader.h"
#include "storage/digest.h"
#include "storage/run_source.h"
#include "tests/support/checkpoint_content.h"
#include "tests/support/expect_error.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

using namespace storage;
using namespace testing;

class CheckpointSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto io = make_block_io({});
    create_small(small_config(run_), *io);
    const auto store = Store::open(run_, {}, *io);
    for (uint64_t step = 1; step <= 3; step++) write_and_commit(*store, *io, step);
  }
  static std::string bytes_at(TensorSource& source, size_t tensor, uint32_t plane, uint64_t first,
                              uint64_t count) {
    std::string got(count * source.tensors()[tensor].planes[plane].element_bytes, '\0');
    source.read(tensor, plane, first, std::as_writable_bytes(std::span(got)));
    return got;
  }

  TemporaryDirectory directory_;
  std::string run_ = directory_ / "run", saved_ = directory_ / "saved";
};

TEST_F(CheckpointSourceTest, GivesWhatTheRunGives) {
  save_checkpoint(run_, saved_);
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  std::mt19937_64 random(seed);
  const auto run = open_run(run_, {.use = SourceUse::kRead});
  const auto checkpoint = open_source(saved_, {.use = SourceUse::kRead});
  ASSERT_EQ(checkpoint->tensors().size(), run->tensors().size());
  for (size_t i = 0; i < run->tensors().size(); i++) {
    const SourceTensor &a = run->tensors()[i], &b = checkpoint->tensors()[i];
    EXPECT_EQ(a.name, b.name);
    EXPECT_EQ(a.shape, b.shape);
    EXPECT_EQ(a.bytes, b.bytes);
    ASSERT_EQ(a.planes.size(), b.planes.size());
    for (uint32_t p = 0; p < a.planes.size(); p++) {
      EXPECT_EQ(a.planes[p].name, b.planes[p].name);
      EXPECT_EQ(a.planes[p].type, b.planes[p].type);
      for (int round = 0; round < 10; round++) {
        const uint64_t values = value_count(a, a.planes[p]);
        const uint64_t first = round == 0 ? 0 : random() % values;
        const uint64_t count = round == 0 ? values : random() % (values - first) + 1;
        ASSERT_EQ(bytes_at(*run, i, p, first, count), bytes_at(*checkpoint, i, p, first, count))
            << a.name << " " << p;
      }
    }
  }
  EXPECT_EQ(digest(*checkpoint), digest(*run));
}

TEST_F(CheckpointSourceTest, OfWeightsAloneHoldsNothingElse) {
  save_checkpoint(run_, saved_, true);
  const auto run = open_run(run_, {.use = SourceUse::kRead});
  const auto checkpoint = open_checkpoint(saved_, SourceUse::kRead);
  for (size_t i = 0; i < run->tensors().size(); i++) {
    const SourceTensor& tensor = checkpoint->tensors()[i];
    uint64_t bytes = 0;
    for (const SourcePlane& plane : tensor.planes) {
      EXPECT_TRUE(plane.name.starts_with("weight.")) << plane.name;
      bytes += tensor.elements * plane.element_bytes;
    }
    EXPECT_EQ(tensor.bytes, bytes);
    EXPECT_EQ(bytes_at(*checkpoint, i, 0, 0, tensor.elements), bytes_at(*run, i, 0, 0, tensor.elements));
  }
}

TEST_F(CheckpointSourceTest, SaysWhatEachTensorTakesOnDisk) {
  const CheckpointStats stats = save_checkpoint(run_, saved_);
  uint64_t frames = 0, tensors = 0, count = 0;
  const CheckpointReader reader(saved_);
  for (size_t pack = 0; pack < reader.manifest().packs.size(); pack++) {
    for (const Frame& frame : reader.frames_of(pack)) {
      frames += frame.packed_bytes;
      count++;
    }
  }
  const auto source = open_checkpoint(saved_, SourceUse::kList);
  for (const SourceTensor& tensor : source->tensors()) {
    EXPECT_GT(tensor.stored_bytes, 0u) << tensor.name;
    EXPECT_LE(tensor.stored_bytes, tensor.bytes) << tensor.name;
    tensors += tensor.stored_bytes;
  }
  EXPECT_EQ(tensors, frames);
  EXPECT_EQ(frames + count * kFrameRecordBytes + reader.manifest().packs.size() * kPackHeaderBytes,
            stats.stored_bytes);
}

TEST_F(CheckpointSourceTest, EveryDamagedPieceIsFound) {
  save_checkpoint(run_, saved_);
  size_t frames = 0;
  const CheckpointReader reader(saved_);
  for (size_t p = 0; p < reader.manifest().packs.size(); p++) {
    std::string pack = read_file(saved_ + "/" + pack_name(p));
    for (const Frame& frame : reader.frames_of(p)) {
      pack[frame.offset] = static_cast<char>(pack[frame.offset] ^ 1);
      frames++;
    }
    write_file(saved_ + "/" + pack_name(p), pack);
  }
  const auto source = open_checkpoint(saved_, SourceUse::kVerify);
  EXPECT_TRUE(source->info().faults.empty());
  std::set<std::string> faults;
  for (size_t i = 0; i < source->tensors().size(); i++) {
    for (uint32_t p = 0; p < source->tensors()[i].planes.size(); p++) {
      const uint64_t values = value_count(source->tensors()[i], source->tensors()[i].planes[p]);
      for (uint64_t at = 0; at < values;) {
        const uint64_t end = std::min(values, source->checked_with(i, p, at));
        ASSERT_GT(end, at);
        try {
          bytes_at(*source, i, p, at, end - at);
          ADD_FAILURE() << source->tensors()[i].name << " " << p << " at " << at;
        } catch (const Error& error) {
          faults.insert(error.what());
        }
        at = end;
      }
    }
  }
  EXPECT_EQ(faults.size(), frames);
}

TEST_F(CheckpointSourceTest, ListsWithoutReadingThePacks) {
  save_checkpoint(run_, saved_);
  std::string pack = read_file(saved_ + "/pack-00000");
  std::fill(pack.begin() + kPackHeaderBytes, pack.end(), '\0');
  write_file(saved_ + "/pack-00000", pack);
  EXPECT_EQ(open_source(saved_, {.use = SourceUse::kList})->tensors().size(), 9u);
  expect_error(ErrorKind::kCorrupt, "pack-00000", [&] { open_source(saved_, {.use = SourceUse::kRead}); });
  write_file(saved_ + "/pack-00000", pack.substr(0, pack.size() - 1));
  expect_error(ErrorKind::kCorrupt, "it has", [&] { open_source(saved_, {.use = SourceUse::kList}); });
}

TEST_F(CheckpointSourceTest, IsNamedWhereTheirDirectoryIsGiven) {
  save_checkpoint(run_, checkpoint_directory(run_, 3, false));
  expect_error(ErrorKind::kUsage, "holds no run, no checkpoint",
               [&] { open_source(run_ + "/checkpoints", {}); });
  try {
    open_source(run_ + "/checkpoints", {});
  } catch (const Error& error) {
    EXPECT_NE(error.advice().find("checkpoints/step-000003"), std::string::npos) << error.advice();
  }
}

}  // namespace
}  // namespace headrace

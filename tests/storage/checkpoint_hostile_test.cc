// Checkpoints that are damaged, made up, or something else: each is refused, for what it is.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_format.h"
#include "storage/checkpoint_reader.h"
#include "storage/checkpoint_restore.h"
#include "storage/checksum.h"
#include "storage/error.h"
#include "tests/support/checkpoint_content.h"
#include "tests/support/expect_error.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

namespace headrace {
namespace {

namespace fs = std::filesystem;
using namespace storage;
using namespace testing;

class HostileCheckpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // Small, so that every byte can be changed.
    layout_ = Layout({{"matrix",
                       30,
                       5,
                       20,
                       2,
                       {{"weight.high", 2}, {"weight.low", 2}, {"moment1.code", 1}, {"moment1.scale", 4, 10}},
                       {{"matrix", {30, 5}, 0}}}});
    const auto io = make_block_io({});
    const auto fill = [&](const BlockLayout& block, std::span<std::byte> payload) -> uint32_t {
      fill_payload(layout_, block, 1, payload);
      std::fill_n(payload.begin(), 150, std::byte{1});  // something to compress
      return 4;
    };
    Store::create({directory_ / "run", {}, layout_, "{}", "{}"}, *io, fill, 1, nullptr);
    save_checkpoint(directory_ / "run", saved_);
    manifest_ = read_file(manifest_path(saved_));
  }

  // Opens it and reads everything.
  void read_all() const {
    const CheckpointReader reader(saved_);
    CheckpointReader::Workspace workspace;
    for (TensorId t = 0; t < reader.layout().tensors().size(); t++) {
      const TensorSpec& tensor = reader.layout().tensor(t);
      for (uint32_t p = 0; p < tensor.planes.size(); p++) {
        const uint64_t count = tensor.planes[p].values(tensor.rows * tensor.columns);
        std::vector<std::byte> values(count * tensor.planes[p].element_bytes);
        if (reader.has_plane(t, p)) reader.read(t, p, 0, values, workspace);
      }
    }
  }
  // With another manifest, whose checksum is right.
  void rewrite(const std::function<void(nlohmann::ordered_json&)>& change) const {
    auto json = nlohmann::ordered_json::parse(manifest_);
    change(json);
    json.erase("checksum");
    write_manifest(json.dump(2));
  }
  // `text`: an object without the checksum, which is put in.
  void write_manifest(std::string text) const {
    text.resize(text.size() - 2);
    text +=
        fmt::format(",\n  \"checksum\": \"{:016x}\"\n}}\n", checksum_bytes(std::as_bytes(std::span(text))));
    write_file(manifest_path(saved_), text);
  }
  void expect_corrupt(const std::string& text) const {
    expect_error(ErrorKind::kCorrupt, text, [&] { read_all(); });
  }

  TemporaryDirectory directory_;
  Layout layout_;
  std::string saved_ = directory_ / "saved", manifest_;
};

TEST_F(HostileCheckpointTest, AChangeOfAnyByteIsFound) {
  read_all();
  for (const char* name : {"/manifest.json", "/pack-00000"}) {
    const std::string path = saved_ + name, whole = read_file(path);
    for (size_t at = 0; at < whole.size(); at++) {
      std::string changed = whole;
      changed[at] = static_cast<char>(changed[at] ^ 1 << (at * 5 % 8));
      write_file(path, changed);
      EXPECT_THROW(read_all(), Error) << name << " " << at;
    }
    write_file(path, whole);
  }
  read_all();
}

TEST_F(HostileCheckpointTest, AFileOfAnyOtherLengthIsFound) {
  for (const char* name : {"/manifest.json", "/pack-00000"}) {
    const std::string path = saved_ + name, whole = read_file(path);
    for (size_t length = 0; length < whole.size(); length += 1 + whole.size() / 300) {
      write_file(path, whole.substr(0, length));
      EXPECT_THROW(read_all(), Error) << name << " " << length;
    }
    write_file(path, whole + "\n");
    EXPECT_THROW(read_all(), Error) << name;
    write_file(path, whole);
  }
}

TEST_F(HostileCheckpointTest, SaysWhichBytesOfWhichTensor) {
  const std::string path = saved_ + "/pack-00000";
  std::string pack = read_file(path);
  const Frame frame = CheckpointReader(saved_).frames_of(0).at(4);
  pack[frame.offset + 3] ^= 4;
  write_file(path, pack);
  expect_corrupt(fmt::format("{}: the {} bytes at offset {} are not what was written", path,
                             frame.packed_bytes, frame.offset));
  expect_corrupt(fmt::format("tensor 'matrix', plane '{}', block {}",
                             layout_.tensor(0).planes[frame.plane].name, frame.block));
}

TEST_F(HostileCheckpointTest, NamesDoNotLeadAnywhere) {
  for (const char* name : {"../saved/pack-00000", "/etc/passwd", "pack-00001", "pack-00000/", "", "pack-0"}) {
    rewrite([&](auto& json) { json["packs"][0]["name"] = name; });
    expect_corrupt("a pack of another name");
  }
}

TEST_F(HostileCheckpointTest, LinksAndPipesAreNotFollowed) {
  const std::string path = saved_ + "/pack-00000", kept = directory_ / "kept";
  fs::rename(path, kept);
  fs::create_symlink(kept, path);
  expect_corrupt("it is a symbolic link");
  fs::remove(path);
  ASSERT_EQ(mkfifo(path.c_str(), 0644), 0);
  expect_corrupt("it is no file");
  fs::remove(path);
  expect_corrupt("it is missing");
}

TEST_F(HostileCheckpointTest, NumbersThatWouldTakeMemoryAreRefused) {
  const auto tensor = [](auto& json) -> auto& { return json["tensors"][0]; };
  rewrite([&](auto& json) {
    tensor(json)["rows"] = uint64_t{1} << 40;
    tensor(json)["block_rows"] = 1;
    tensor(json)["parts"][0]["shape"] = {uint64_t{1} << 40, 5};
  });
  expect_corrupt("more blocks than its packs");
  rewrite([&](auto& json) { tensor(json)["planes"][0]["element_bytes"] = 1 << 30; });
  expect_corrupt("values of");
  for (const uint64_t group : {uint64_t{0}, uint64_t{1} << 17, (uint64_t{1} << 32) - 1, ~uint64_t{0}}) {
    rewrite([&](auto& json) { tensor(json)["planes"][3]["group"] = group; });
    expect_corrupt("makes no sense");
  }
  rewrite([&](auto& json) { tensor(json)["planes"][3]["group"] = -10; });
  expect_corrupt("makes no sense");
  rewrite(
      [&](auto& json) { tensor(json)["planes"][3]["group"] = 30; });  // 20 rows of 5 elements are no groups
  expect_corrupt("a group of plane 'moment1.scale' would lie in two blocks");
  // As many blocks, of a great many elements.
  rewrite([&](auto& json) {
    tensor(json)["columns"] = uint64_t{1} << 58;
    tensor(json)["parts"][0]["shape"] = {30, uint64_t{1} << 58};
    for (auto& plane : tensor(json)["planes"]) plane["group"] = 1 << 16;
  });
  expect_corrupt("makes no sense");
  // Sizes that agree with each other, and not with the packs.
  rewrite([&](auto& json) { tensor(json)["planes"][3]["group"] = 20; });
  expect_corrupt("claims a size");
  rewrite([&](auto& json) { tensor(json)["planes"][1]["group"] = 10; });
  expect_corrupt("claims a size");
  rewrite([&](auto& json) { tensor(json)["rows"] = ~uint64_t{0}; });
  expect_corrupt("");
  rewrite([&](auto& json) { tensor(json)["block_rows"] = 0; });
  expect_corrupt("");
  rewrite([&](auto& json) { json["packs"][0]["table_offset"] = 64; });
  expect_corrupt("the table of pack-00000");
  rewrite([&](auto& json) { json["packs"][0]["bytes"] = ~uint64_t{0}; });
  expect_corrupt("the table of pack-00000");
  rewrite([&](auto& json) { json["packs"][0]["bytes"] = -1; });
  expect_corrupt("is no number");
  rewrite([&](auto& json) { json["step"] = ~uint64_t{0}; });
  expect_corrupt("the step");
  rewrite([&](auto& json) { json["packs"] = nlohmann::ordered_json::array(); });
  expect_corrupt("more blocks than its packs");
  rewrite([&](auto& json) { json["tensors"] = 7; });
  expect_corrupt("");
  rewrite([&](auto& json) { json.erase("model"); });
  expect_corrupt("makes no sense");
}

TEST_F(HostileCheckpointTest, ListsThatNestTooDeepAreRefused) {
  auto json = nlohmann::ordered_json::parse(manifest_);
  json.erase("checksum");
  json["tensors"][0]["planes"] = "here";
  const std::string text = json.dump(2);
  const size_t at = text.find("\"here\"");
  ASSERT_NE(at, text.npos);
  const size_t depth = 300000;
  write_manifest(text.substr(0, at) + std::string(depth, '[') + std::string(depth, ']') +
                 text.substr(at + 6));
  expect_corrupt("it is no manifest of a checkpoint");
}

// Whoever makes up a checkpoint can make its checksums right, too.
TEST_F(HostileCheckpointTest, RecordsThatLieAreRefused) {
  const PackInfo pack = read_manifest(saved_).packs[0];
  const std::string path = saved_ + "/pack-00000", whole = read_file(path);
  const std::vector<Frame> frames = CheckpointReader(saved_).frames_of(0);
  const auto lie = [&](const std::function<void(std::vector<Frame>&)>& change) {
    std::vector<Frame> changed = frames;
    change(changed);
    std::vector<std::byte> table;
    for (const Frame& frame : changed) append_record(frame, table);
    write_file(path, whole.substr(0, pack.table_offset) +
                         std::string(reinterpret_cast<const char*>(table.data()), table.size()));
    rewrite([&](auto& json) {
      json["packs"][0]["bytes"] = pack.table_offset + table.size();
      json["packs"][0]["table_checksum"] = fmt::format("{:016x}", checksum_bytes(table));
    });
  };
  lie([](auto&) {});
  read_all();
  lie([](auto& f) { f[0].content_bytes = 1u << 31; });
  expect_corrupt("claims a size");
  lie([](auto& f) { f[0].packed_bytes = f[0].content_bytes + 1; });
  expect_corrupt("claims a size");
  lie([](auto& f) { f[0].packed_bytes = 0; });
  expect_corrupt("claims a size");
  lie([](auto& f) { f[0].offset = ~uint64_t{0} - 4; });
  expect_corrupt("leads out of the pack");
  lie([](auto& f) { f[0].offset = 0; });
  expect_corrupt("leads out of the pack");
  lie([](auto& f) { f[1].offset = f[0].offset; });
  expect_corrupt("leaves a gap");
  lie([](auto& f) { f[0].block = 2; });
  expect_corrupt("a block that there is not");
  lie([](auto& f) { f[0].plane = 4; });
  expect_corrupt("a plane that there is not");
  lie([](auto& f) { f[0].piece = 1; });
  expect_corrupt("a piece that there is not");
  lie([](auto& f) { f[0].split = static_cast<Split>(kSplits); });
  expect_corrupt("split in a way");
  lie([](auto& f) {
    std::swap(f[0].block, f[1].block);
    std::swap(f[0].plane, f[1].plane);
    f[1] = f[0];
  });
  expect_corrupt("");
  lie([](auto& f) { f.pop_back(); });
  expect_corrupt("");
  lie([](auto& f) { f[0].packed_checksum++; });
  expect_corrupt("their checksum is another");
  lie([](auto& f) { f[0].content_checksum++; });
  expect_corrupt("another content");
}

TEST_F(HostileCheckpointTest, OfALaterVersionItSaysSo) {
  rewrite([](auto& json) { json["format"] = "headrace checkpoint 2"; });
  expect_error(ErrorKind::kUsage, "has the format 'headrace checkpoint 2'", [&] { read_all(); });
  write_file(manifest_path(saved_), R"({"format": "headrace checkpoint 17", "else": []})");
  expect_error(ErrorKind::kUsage, "has the format 'headrace checkpoint 17'", [&] { read_all(); });
  write_file(manifest_path(saved_), R"({"format": "something"})");
  expect_corrupt("not what was written");
}

TEST_F(HostileCheckpointTest, PicklesAreRefusedByTheirFirstBytes) {
  for (const std::string& start :
       {std::string("PK\x03\x04..."), std::string("\x80\x02}q"), std::string("\x80\x04\x95")}) {
    write_file(directory_ / "model.bin", start);
    expect_error(ErrorKind::kUsage, "is a pickle of PyTorch's",
                 [&] { read_manifest(directory_ / "model.bin"); });
    write_file(manifest_path(saved_), start);
    expect_error(ErrorKind::kUsage, "is a pickle of PyTorch's", [&] { read_manifest(saved_); });
  }
  write_file(directory_ / "text", "");
  expect_error(ErrorKind::kUsage, "is a file", [&] { read_manifest(directory_ / "text"); });
  expect_error(ErrorKind::kUsage, "holds no checkpoint", [&] { read_manifest(directory_ / "run"); });
  expect_error(ErrorKind::kUsage, "No such file", [&] { read_manifest(directory_ / "nothing"); });
}

TEST_F(HostileCheckpointTest, ModelsThatDifferAreNamed) {
  const auto refused = [&](const std::string& text, std::vector<TensorSpec> tensors) {
    expect_error(ErrorKind::kUsage, text, [&] {
      const CheckpointReader reader(saved_);
      CheckpointContent(reader, Layout(std::move(tensors)), false);
    });
  };
  const TensorSpec own = layout_.tensor(0);
  TensorSpec other = own;
  other.name = other.parts[0].name = "another";
  refused("it has no tensor 'another'", {other});
  refused("it has no tensor 'another'", {own, other});
  other = own;
  other.rows = 29;
  other.parts[0].shape = {29, 5};
  refused("tensor 'matrix' is [30, 5] in the checkpoint and [29, 5] in the model", {other});
  other = own;
  other.planes.pop_back();
  refused("has other planes", {other});
  other = own;
  other.planes[3].group = 20;
  refused("has other planes", {other});
  other = own;
  other.parts[0].shape = {5, 30};
  refused("has other parts", {other});
}

TEST_F(HostileCheckpointTest, RandomManifestsAreRefusedQuietly) {
  const uint64_t seed = std::random_device{}();
  SCOPED_TRACE(fmt::format("seed {}", seed));
  std::mt19937_64 random(seed);
  const std::vector<std::string> values{"-1",   "0",        "1e308",      "18446744073709551615",
                                        "null", "[]",       "{}",         "\"\"",
                                        "true", "\"../x\"", "4294967296", "[[[[]]]]"};
  for (int round = 0; round < 200; round++) {
    rewrite([&](nlohmann::ordered_json& json) {
      nlohmann::ordered_json flat = json.flatten();
      auto at = flat.begin();
      std::advance(at, static_cast<ptrdiff_t>(random() % flat.size()));
      json[nlohmann::ordered_json::json_pointer(at.key())] =
          nlohmann::ordered_json::parse(values[random() % values.size()]);
    });
    try {
      read_all();
    } catch (const Error&) {
    }
  }
}

}  // namespace
}  // namespace headrace

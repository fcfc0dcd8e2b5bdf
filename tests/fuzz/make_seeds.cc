// Makes the seed corpora of the fuzz targets from what the program itself writes: make_seeds DIRECTORY makes
// DIRECTORY/TARGET/NAME.
#include <fmt/format.h>
#include <zlib.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "engine/train/cursor.h"
#include "engine/train/run_options.h"
#include "models/registry.h"
#include "storage/catalog_env.h"
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_reader.h"
#include "storage/drive_profile.h"
#include "storage/run_dir.h"
#include "storage/safetensors_writer.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/fuzz/key_values.h"
#include "tests/fuzz/small_pack.h"
#include "tests/fuzz/small_shard.h"
#include "tests/support/checkpoint_content.h"
#include "tests/support/npy_writer.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"
#include "tools/run_input.h"

namespace headrace::fuzz {
namespace {

std::string root;

void seed(const std::string& target, const std::string& name, const std::string& content) {
  std::filesystem::create_directories(root + "/" + target);
  testing::write_file(root + "/" + target + "/" + name, content);
}

void seed_storage() {
  const ScratchDirectory directory;
  {
    const SmallShard shard(directory.path());
    std::string headers;
    for (size_t i = 0; i < shard.header_offsets().size(); i++) {
      storage::BlockHeader header = shard.header(i);
      header.checksum = 0;
      headers.append(reinterpret_cast<const char*>(&header), sizeof header);
    }
    seed("shard", "headers", headers);
    seed("lmdb_check", "shard", "\1" + testing::read_file(directory.path() + "/data.mdb"));
  }
  const auto io = storage::make_block_io({storage::IoBackend::kThreads});
  const std::string run = directory.path() + "/run";
  testing::create_small(testing::small_config(run), *io);
  {
    const auto store = storage::Store::open(run, {}, *io);
    for (uint64_t step = 1; step <= 3; step++) testing::write_and_commit(*store, *io, step);
  }
  const std::string catalog = storage::catalog_directory(run);
  seed("lmdb_check", "catalog", std::string(1, '\0') + testing::read_file(catalog + "/data.mdb"));
  std::string values;
  storage::CatalogEnv(catalog, storage::CatalogAccess::kRead)
      .read_all([&](std::string_view key, std::span<const std::byte> value, uint64_t) {
        append_key_value(values, key, value);
      });
  seed("catalog", "values", values);
  for (const bool weights_only : {false, true}) {
    const std::string saved = directory.path() + (weights_only ? "/weights" : "/all");
    testing::save_checkpoint(run, saved, weights_only);
    const std::string manifest = testing::read_file(storage::manifest_path(saved));
    seed("checkpoint_manifest", weights_only ? "weights" : "all",
         manifest.substr(0, manifest.rfind(",\n  \"checksum\"")));
  }
}

// The pack of a small tensor, and each of its frames.
void seed_packs() {
  const storage::CheckpointManifest manifest = small_manifest();
  const storage::Layout layout(manifest.tensors);
  storage::Compressor compressor(1, storage::kPieceBytes);
  std::string frames;
  std::vector<std::byte> table;
  for (const storage::BlockLayout& block : layout.blocks()) {
    for (uint32_t p = 0; p < manifest.tensors[0].planes.size(); p++) {
      const uint32_t unit = manifest.tensors[0].planes[p].element_bytes;
      std::vector<std::byte> content(block.planes[p].bytes);
      for (size_t i = 0; i < content.size(); i++)
        content[i] = static_cast<std::byte>(i % unit == 0 ? i * 7 : i % 3);
      storage::Frame frame{block.id, p, 0, storage::best_split(unit),
                           storage::kPackHeaderBytes + frames.size()};
      const auto packed = compressor.compress(frame.split, unit, content);
      frame.packed_bytes = static_cast<uint32_t>(packed.size());
      frame.content_bytes = static_cast<uint32_t>(content.size());
      frame.content_checksum = storage::checksum_bytes(content);
      storage::append_record(frame, table);
      const std::string text(reinterpret_cast<const char*>(packed.data()), packed.size());
      frames += text;
      const size_t elements = content.size() / unit;
      seed("checkpoint_frame", fmt::format("block{}plane{}", block.id, p),
           std::string{char(frame.split), char(unit - 1), char(elements), char(elements >> 8)} + text);
    }
  }
  const size_t records = table.size() / storage::kFrameRecordBytes;
  for (size_t i = 1; i <= records; i++)  // checksums of records: put right by the target
    std::fill_n(table.begin() + static_cast<ptrdiff_t>(i * storage::kFrameRecordBytes - 8), 8, std::byte{0});
  seed("checkpoint_pack", "pack",
       frames + std::string(reinterpret_cast<const char*>(table.data()), table.size()) + char(records));
  std::string damaged(reinterpret_cast<const char*>(table.data()), table.size());
  damaged[storage::kFrameRecordBytes - 8] = 1;  // a checksum that is wrong, and not to be put right
  seed("checkpoint_pack", "damaged", frames + damaged + char(records));
  // A window of 2 GiB, and 1 GiB of content in one byte.
  const std::string huge("\x28\xB5\x2F\xFD\x80\xA8\x00\x10\x00\x00\x03\x80\x00\x55", 14);
  seed("checkpoint_frame", "window", std::string("\0\0\0\x10", 4) + huge);
  std::string bomb = huge;
  bomb.replace(6, 4, std::string("\0\0\0\x40", 4));
  seed("checkpoint_frame", "bomb", std::string("\0\0\0\x10", 4) + bomb);
}

std::string packed(const std::string& content) {
  const ScratchDirectory directory;
  const std::string path = directory.path() + "/packed.gz";
  const gzFile file = gzopen(path.c_str(), "wb");
  HEADRACE_CHECK(file != nullptr);
  HEADRACE_CHECK(gzwrite(file, content.data(), unsigned(content.size())) == int(content.size()));
  HEADRACE_CHECK(gzclose(file) == Z_OK);
  return testing::read_file(path);
}

void seed_text() {
  seed("config_file", "options",
       "# of a run\nmodel = \"gpt2\"\nlr = 6e-4\nsteps = 100\njson = true\n"
       "shard-dir = [\"/mnt/a\", '/mnt/b']\n[table]\nwhen = 2026-01-02T03:04:05Z\n");
  seed("config_file", "parts", "a.b.\"c.d\".e = 1 # x.y\n[f.'g'.h]\ni = '''.\n.'''\n");
  seed("config_file", "texts", "a = \"\"\"x\\u00e9\n\"\"\"\nb = '''y'''\nc.d = {e = 0x1f, f = [1, [nan]]}\n");
  seed("safetensors_index", "index", R"({"metadata": {"total_size": 16},
"weight_map": {"a.weight": "a.safetensors", "b.weight": "b.safetensors"}})");
  seed("model_config", "gpt2",
       R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_inner": null,
"vocab_size": 256, "n_positions": 32, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new",
"tie_word_embeddings": true, "resid_pdrop": 0.1, "architectures": ["GPT2LMHeadModel"]})");
  seed("model_config", "mlp",
       R"({"model_type": "mlp", "features": 784, "hidden": [256, 128], "outputs": 10, "activation": "relu",
"norm": "batch", "dropout": 0.1, "loss": "cross_entropy"})");
  seed("model_config", "softmax-regression", R"({"model_type": "softmax-regression", "_name": null})");
  seed("model_config", "gcn",
       R"({"model_type": "gcn", "hidden": [64, 64], "dropout": 0.5, "pooling": "max", "pool_ratio": 0.5,
"nodes": 2708, "features": 1433, "classes": 7, "edges": 5278, "graphs": 12, "content": "0a1b"})");
  seed("model_config", "lstm",
       R"({"model_type": "lstm", "vocab_size": 256, "embedding_size": 64, "hidden_size": 128, "num_layers": 2,
"dropout": 0})");
  seed("model_config", "deep", R"({"model_type": "mlp", "hidden": )" + std::string(60, '[') + "1");
  seed("metrics_line", "step", R"({"step":3,"loss":3.2101223,"lr":0.0006,"grad_norm":1.25,"skipped":true})");
  seed("metrics_line", "not_finite", R"({"step":18446744073709551615,"loss":null})");
  seed("csv_rows", "numbers", "\1a,b,\"c\"\r\n1, 2.5,-3e-2\n\n4,5,6");
  seed("csv_rows", "packed", "\1" + packed("1,2\n3,4\n"));
  const std::string idx("\0\0\x08\2\0\0\0\2\0\0\0\3abcdef", 18);
  seed("idx_file", "bytes", idx);
  seed("idx_file", "packed", packed(idx));
  testing::SafetensorsWriter tensors;
  tensors.add<float>("a.weight", "F32", {1, -2, 0.5F});
  tensors.add<uint16_t>("b", "BF16", {0x3f80});
  tensors.add<uint8_t>("c", "F8_E4M3", {0, 127});
  seed("safetensors", "tensors", tensors.file());
  seed("safetensors", "shapes",
       testing::safetensors_file(
           R"({"__metadata__":{"format":"pt"},"x":{"dtype":"I64","shape":[2,0,3],)"
           R"("data_offsets":[0,0]},"y":{"dtype":"F4","shape":[],"data_offsets":[0,1]}} )",
           "z"));
  seed("npy_file", "floats", testing::npy_array<float>({2, 3}, {1, -2, 0.5F, 3, 4, 5}));
  seed("npy_file", "integers", testing::npy_array<int64_t>({3}, {1, -2, 3}));
  seed("npy_file", "scalar",
       testing::npy_file("{'descr': '|b1', 'fortran_order': False, 'shape': ()}", "\1", 2));
  seed("edge_list", "edges", "\5# a comment\n0 1\n\n1\t2\r\n2 1\n3 3\n1 4");
  seed("edge_list", "faults", "\377 0 254\n1 255\n-1 2\n3\n4 5 6\n18446744073709551616 0\nx");
  seed("edge_list", "long", "\1" + std::string(5000, ' ') + "0 0\n" + std::string(5000, '#'));
  storage::DriveProfile profile;
  profile.date = "2026-11-23T23:30:00Z";
  profile.kernel = "6.1.0";
  profile.device = "nvme0n1";
  profile.file_system = "ext4";
  profile.io = "io_uring";
  profile.read = {2.5e9, 1 << 20, 32, 410.5, 1200};
  profile.write = {1.25e9, 512 << 10, 8, 800, 2400.25};
  profile.mix = {1.5e9, 0.5e9, 256 << 10, 24};
  seed("drive_profile", "profile", storage::profile_json(profile));
}

// What runs keep beside their weights, as the program writes it.
void seed_kept_state() {
  const std::string model(1, '\0');
  for (const std::string name : {"gpt2", "mlp", "gcn", "lstm"}) {
    models::ModelConfig config = models::load_model(name);
    train::RunOptions run;
    run.prune_sparsity = 0.5;
    if (name == "gcn") models::settle(config, run, nullptr);
    seed("kept_state", name, model + tools::kept_json(run, config));
    seed("kept_state", name + "_options", "\1" + train::run_options_json(run));
  }
  seed("kept_state", "cursor", "\2" + train::cursor_json({412, true, 400}));
}

// A matrix of 8-bit integers with its scales, as headrace quantize writes it.
void seed_quantized() {
  const ScratchDirectory directory;
  const std::string path = directory.path() + "/model.safetensors";
  storage::SafetensorsWriter writer(path,
                                    {{"w", storage::ElementType::kI8, {3, 2}},
                                     {"w.scale", storage::ElementType::kF32, {3}},
                                     {"b", storage::ElementType::kF32, {2}}},
                                    {{"format", "pt"}});
  const std::array<int8_t, 6> q{1, -2, 127, 0, -127, 5};
  const std::array<float, 3> scales{0.5F, 2, 0};
  const std::array<float, 2> bias{7, 8};
  writer.write(0, 0, std::as_bytes(std::span(q)));
  writer.write(1, 0, std::as_bytes(std::span(scales)));
  writer.write(2, 0, std::as_bytes(std::span(bias)));
  writer.finish();
  seed("quantized", "matrix", testing::read_file(path));
}

}  // namespace
}  // namespace headrace::fuzz

int main(int count, char** arguments) {
  if (count != 2) {
    std::fputs("usage: make_seeds DIRECTORY\n", stderr);
    return 2;
  }
  headrace::fuzz::root = arguments[1];
  headrace::fuzz::seed_storage();
  headrace::fuzz::seed_packs();
  headrace::fuzz::seed_text();
  headrace::fuzz::seed_kept_state();
  headrace::fuzz::seed_quantized();
  return 0;
}

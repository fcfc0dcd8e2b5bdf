// Makes the seed corpora of the fuzz targets from what the program itself writes: make_seeds DIRECTORY makes
// DIRECTORY/TARGET/NAME.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

#include "storage/catalog_env.h"
#include "storage/drive_profile.h"
#include "storage/run_dir.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/fuzz/key_values.h"
#include "tests/fuzz/small_shard.h"
#include "tests/support/npy_writer.h"
#include "tests/support/safetensors_writer.h"
#include "tests/support/store_content.h"
#include "tests/support/temporary_directory.h"

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
}

void seed_text() {
  seed("config_file", "options",
       "# of a run\nmodel = \"gpt2\"\nlr = 6e-4\nsteps = 100\njson = true\n"
       "shard-dir = [\"/mnt/a\", '/mnt/b']\n[table]\nwhen = 2026-01-02T03:04:05Z\n");
  seed("config_file", "texts", "a = \"\"\"x\\u00e9\n\"\"\"\nb = '''y'''\nc.d = {e = 0x1f, f = [1, [nan]]}\n");
  seed("model_config", "gpt2",
       R"({"model_type": "gpt2", "n_layer": 2, "n_embd": 32, "n_head": 2, "n_inner": null,
"vocab_size": 256, "n_positions": 32, "layer_norm_epsilon": 1e-05, "activation_function": "gelu_new",
"tie_word_embeddings": true, "resid_pdrop": 0.1, "architectures": ["GPT2LMHeadModel"]})");
  seed("metrics_line", "step", R"({"step":3,"loss":3.2101223,"lr":0.0006,"grad_norm":1.25,"skipped":true})");
  seed("metrics_line", "not_finite", R"({"step":18446744073709551615,"loss":null})");
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

}  // namespace
}  // namespace headrace::fuzz

int main(int count, char** arguments) {
  if (count != 2) {
    std::fputs("usage: make_seeds DIRECTORY\n", stderr);
    return 2;
  }
  headrace::fuzz::root = arguments[1];
  headrace::fuzz::seed_storage();
  headrace::fuzz::seed_text();
  return 0;
}

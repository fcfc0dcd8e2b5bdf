#include "tests/support/checkpoint_content.h"

#include "storage/block_io.h"
#include "storage/checkpoint_restore.h"
#include "storage/checkpoint_save.h"
#include "tests/support/store_content.h"

namespace headrace::testing {

using namespace storage;

CheckpointTarget target_of(const Store& store, const std::string& directory, bool weights_only) {
  CheckpointTarget target;
  target.directory = directory;
  target.manifest.run_id = store.run_id();
  target.manifest.step = store.step();
  target.manifest.weights_only = weights_only;
  target.manifest.model_json = store.model_json();
  target.manifest.cursor_json = store.cursor_json();
  target.manifest.configuration = "{}";
  target.written_step = [&store](BlockId block) { return store.written_step(block); };
  return target;
}

CheckpointStats save_checkpoint(const std::string& run_dir, const std::string& directory, bool weights_only,
                                const std::function<void(const char*)>& at) {
  const auto io = make_block_io({});
  const auto store = Store::open(run_dir, {}, *io);
  CheckpointWriter writer(store->layout(), {.level = 1, .workers = 2, .at = at});
  CheckpointTarget target = target_of(*store, directory, weights_only);
  target.earlier = earlier_checkpoint(run_dir, weights_only);
  writer.begin(std::move(target));
  save_missing(writer, *store, *io, 2);
  return writer.publish();
}

void restore_checkpoint(const std::string& checkpoint, const std::string& run_dir,
                        const std::vector<std::string>& shard_dirs, uint64_t block_rows, bool weights_only) {
  const CheckpointReader reader(checkpoint);
  StoreConfig config = small_config(run_dir, shard_dirs, block_rows);
  config.step = reader.manifest().step;
  config.cursor_json = reader.manifest().cursor_json;
  CheckpointContent content(reader, config.layout, weights_only);
  const auto io = make_block_io({});
  Store::create(
      config, *io,
      [&](const BlockLayout& block, std::span<std::byte> payload) { return content.fill(block, payload); }, 2,
      nullptr);
}

}  // namespace headrace::testing

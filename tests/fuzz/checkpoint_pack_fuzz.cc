// The frames of a checkpoint and their table, with right checksums around them: read as for restoring, and as
// for verifying, which goes on where a pack is damaged.
#include "storage/checkpoint_dir.h"
#include "storage/checkpoint_reader.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/fuzz/small_pack.h"

namespace {

void write(const std::string& path, std::string_view text) {
  const headrace::storage::File file =
      headrace::storage::File::open(path, headrace::storage::OpenMode::kReadWrite);
  file.resize(0);
  file.pwrite_all(std::as_bytes(std::span(text)), 0);
}

}  // namespace

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  static const fuzz::ScratchDirectory directory;
  // Making one takes longer than the rest. Planes are read whole, so that no piece of another checkpoint is
  // kept.
  static storage::CheckpointReader::Workspace workspace;
  static const std::string manifest = storage::manifest_path(directory.path()),
                           pack_path = directory.path() + "/" + storage::pack_name(0);
  if (static bool made = false; !made) {
    for (const std::string& path : {manifest, pack_path})
      storage::File::open(path, storage::OpenMode::kCreate);
    made = true;
  }
  const fuzz::SmallPack pack = fuzz::small_pack(fuzz::text_of(data, size));
  write(manifest, storage::encode_manifest(pack.manifest));
  write(pack_path, pack.file);
  storage::FaultList faults;
  for (storage::FaultList* verifying : {static_cast<storage::FaultList*>(nullptr), &faults}) {
    bool is_sound = false;
    fuzz::expect_error_or_success([&] {
      const storage::CheckpointReader reader(directory.path(), verifying);
      const storage::TensorSpec& tensor = reader.layout().tensor(0);
      for (uint32_t plane = 0; plane < tensor.planes.size(); plane++) {
        const uint64_t count = tensor.planes[plane].values(tensor.rows * tensor.columns);
        std::vector<std::byte> values(count * tensor.planes[plane].element_bytes);
        reader.read(0, plane, 0, values, workspace);
      }
      is_sound = true;
    });
    if (verifying == nullptr && is_sound) return 0;
    HEADRACE_CHECK(!is_sound || !faults.empty(), "a checkpoint that is refused and verifies as sound");
  }
  return 0;
}

// The headers of a shard's records. The input replaces them one after the other, in a shard whose structure
// is sound; where its checksum is zero, the right one is put in.
#include "storage/shard.h"

#include "storage/shard_format.h"
#include "tests/fuzz/fuzzing.h"
#include "tests/fuzz/small_shard.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace headrace;
  static const fuzz::ScratchDirectory directory;
  static const fuzz::SmallShard shard(directory.path());
  for (size_t i = 0; i < shard.header_offsets().size(); i++) {
    storage::BlockHeader header = shard.header(i);
    if (size >= (i + 1) * sizeof header) std::memcpy(&header, data + i * sizeof header, sizeof header);
    if (header.checksum == 0) header.checksum = header_checksum(header);
    shard.file().pwrite_all(std::as_bytes(std::span(&header, 1)), shard.header_offsets()[i]);
  }
  fuzz::expect_error_or_success([&] {
    const storage::Shard opened(directory.path(), 0);
    static_cast<void>(opened.read_structure(fuzz::SmallShard::identity()));
  });
  return 0;
}

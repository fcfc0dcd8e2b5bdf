#include "storage/spill_file.h"

#include "storage/space.h"

namespace headrace::storage {

SpillFile::SpillFile(const std::string& directory, uint32_t drive, BlockIo& io)
    : directory_(directory),
      file_(open_temporary_for_blocks(directory)),
      index_(io.add_file(file_.io_file(drive))) {}

void SpillFile::reserve(uint64_t bytes) {
  if (bytes <= reserved_bytes_) return;
  // Where the file system cannot reserve, at least it has the space now.
  if (!reserve_space(file_.file, bytes, "activations and gradients that do not fit in memory")) {
    const SpaceWanted wanted{directory_, bytes - reserved_bytes_};
    require_space(space_by_file_system({&wanted, 1}));
  }
  // So that a read of an extent that was never written is zeros and not the end of the file.
  file_.file.resize(bytes);
  reserved_bytes_ = bytes;
}

}  // namespace headrace::storage

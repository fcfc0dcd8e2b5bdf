// The block I/O of a training session, tuned to the drives below the run's shards (storage/io_tuning.h).
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/train/options.h"
#include "storage/block_io.h"
#include "storage/io_tuning.h"

namespace headrace::train {

// The directories of the run's shards, which need not exist yet: as given, as recorded, or RUN.
std::vector<std::string> shard_places(const SessionOptions& session);

struct SessionIo {
  std::unique_ptr<storage::BlockIo> io;
  storage::TunedIo tuned;

  // "io_uring, registered buffers; transfers of 1MiB, 16 in flight on a drive: ...": what was
  // chosen and why. To be asked once memory is registered.
  std::string description() const;
};
// Throws Error (kRefused) where --io uring is refused.
SessionIo open_session_io(const SessionOptions& session);

}  // namespace headrace::train

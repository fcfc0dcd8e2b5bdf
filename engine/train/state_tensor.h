// What becomes of a tensor that is state and no parameter (Model::is_state) where others are updated.
#pragma once

#include <cstddef>

#include "engine/stream/streamer.h"
#include "storage/layout.h"

namespace headrace::train {

// `next` [elements] replaces the value in the block's two entries, exactly; the optimizer's planes stay as
// they are. Any thread, different blocks at the same time.
void assign_state(stream::BlockPlanes planes, const storage::BlockLayout& block, std::byte* weights,
                  std::byte* moments, const float* next);

}  // namespace headrace::train

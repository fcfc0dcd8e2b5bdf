// What a new run's blocks begin with.
#pragma once

#include <cstdint>

#include "engine/train/model.h"
#include "storage/store.h"

namespace headrace::train {

// A filler for Store::create(): the model's first weights as the two 16-bit planes, nothing in the planes
// behind. Refers to the model. May be called from several threads; each call keeps to its own.
storage::BlockFiller initial_content(const Model& model, uint64_t seed);

}  // namespace headrace::train

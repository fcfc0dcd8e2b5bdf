// What a new run's blocks begin with.
#pragma once

#include <cstdint>

#include "engine/train/data_set.h"
#include "engine/train/model.h"
#include "storage/store.h"

namespace headrace::train {

// A filler for Store::create(): the model's first weights as the two 16-bit planes, nothing in the planes
// behind; of a frozen tensor the data's rows, as float32 (`data` null: zeros). Refers to both. May be called
// from several threads; each call keeps to its own.
storage::BlockFiller initial_content(const Model& model, uint64_t seed, const DataSet* data = nullptr);

}  // namespace headrace::train

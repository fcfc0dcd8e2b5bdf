// How fast this machine computes: the matrix products of a model's training, timed alone for a second at
// most.
#pragma once

#include <cstdint>

#include "engine/train/options.h"
#include "storage/layout.h"

namespace headrace::train {

// FLOP/s of a block's three products (forward, both gradients) at the model's shapes, each shape weighted by
// how many blocks have it. `tokens`: of a micro-batch. What else a step computes is not in it. To be called
// in the oneTBB arena that the training will use.
double measure_flops_per_second(const storage::Layout& layout, WeightPrecision weights, uint64_t tokens);

}  // namespace headrace::train
